"""Attention between the two residual blocks in the middle, as WF-VAE has it."""

_base_ = '../wfvae2_tiny.py'
model = dict(autoencoder=dict(
    mid_blocks=[dict(type='ResidualBlock'), dict(type='SpatialAttention'), dict(type='ResidualBlock')]))
