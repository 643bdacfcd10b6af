"""16x downsampling with as many latent values as 8 channels at 8x."""

_base_ = '../wfvae2_16x_1024.py'
model = dict(autoencoder=dict(latent_channels=32))
