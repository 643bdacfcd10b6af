"""16 latent channels in place of 8."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(latent_channels=16))
