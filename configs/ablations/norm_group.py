"""Group norm in place of layer norm: statistics over the whole image."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(norm=dict(_delete_=True, type='GroupNorm')))
