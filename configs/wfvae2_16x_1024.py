"""WF-VAE 2 at 1024 px: 16 latent channels, 16x downsampling."""

_base_ = 'wfvae2_1024.py'
model = dict(autoencoder=dict(latent_channels=16, widths=(128, 256, 512, 512)))
