"""Without a mean and a bias: RMS norm in place of layer norm."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(norm=dict(_delete_=True, type='RMSNorm2d')))
