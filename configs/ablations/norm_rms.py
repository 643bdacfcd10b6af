"""RMS norm in place of layer norm: it subtracts no mean and adds no bias."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(norm=dict(_delete_=True, type='RMSNorm2d')))
