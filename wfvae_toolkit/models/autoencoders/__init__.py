"""Autoencoders: ``encode(x)``, ``decode(z)``, ``last_layer``, ``downsample_factor``, ``latent_channels``."""

from .diffusers_models import DiffusersAutoencoderDC, DiffusersAutoencoderKL
from .litevae import LiteVAE
from .outputs import DecoderOutput, EncoderOutput
from .wfvae2 import WFVAE2Image

__all__ = ['DecoderOutput', 'DiffusersAutoencoderDC', 'DiffusersAutoencoderKL', 'EncoderOutput', 'LiteVAE',
           'WFVAE2Image']
