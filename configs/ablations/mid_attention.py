"""Only attention in the middle."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(mid_blocks=[dict(type='SpatialAttention')]))
