"""Autoencoders: ``encode(x)``, ``decode(z)``, ``last_layer``, ``posterior_kind``, and the latent's two numbers,
``downsample_factor`` and ``latent_channels``.
"""

from .diffusers_models import DiffusersAutoencoderDC, DiffusersAutoencoderKL, DiffusersAutoencoderTiny
from .litevae import LiteVAE
from .outputs import DecoderOutput, EncoderOutput
from .wfvae2 import WFVAE2Image

__all__ = ['DecoderOutput', 'DiffusersAutoencoderDC', 'DiffusersAutoencoderKL',
           'DiffusersAutoencoderTiny', 'EncoderOutput', 'LiteVAE', 'WFVAE2Image']
