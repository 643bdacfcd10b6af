"""Autoencoders: ``encode(x)``, ``decode(z)``, ``last_layer``, ``downsample_factor``, ``latent_channels``."""

from .outputs import DecoderOutput, EncoderOutput
from .wfvae2 import WFVAE2Image

__all__ = ['DecoderOutput', 'EncoderOutput', 'WFVAE2Image']
