"""Train, evaluate, convert and serve wavelet-driven image autoencoders for latent diffusion."""

__version__ = '0.1.0'
