"""Train, evaluate, convert and serve wavelet-driven image autoencoders for latent diffusion."""

from .utils.moved import report_moved_modules

__version__ = '0.1.0'

report_moved_modules()


def __getattr__(name):
    # Late: importing the package must not import torch, nor need diffusers.
    if name == 'AutoencoderWFVAE2':
        from .models.diffusers_model import AutoencoderWFVAE2
        return AutoencoderWFVAE2
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
