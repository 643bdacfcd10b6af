"""No attention: only convolutions, whose receptive field does not depend on the image's size."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(mid_blocks=[dict(type='ResidualBlock'), dict(type='ResidualBlock')]))
