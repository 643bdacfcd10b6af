"""Latents with noise of one std in place of a variance that the encoder learns; the KL then holds the means alone."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(posterior=dict(type='FixedVariancePosterior', std=0.1)))
