"""32x without channel attention."""

_base_ = '../wfvae2_32x_1024.py'
model = dict(autoencoder=dict(
    channel_attention=None,
    mid_blocks=[dict(type='ResidualBlock'), dict(type='SpatialAttention'), dict(type='ResidualBlock')]))
