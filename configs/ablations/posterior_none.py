"""A plain autoencoder: latents without variance, and so without KL."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(posterior=dict(type='DeterministicPosterior')), losses=dict(kl=None))
