"""The demo with RMS norm in place of layer norm."""

_base_ = '../wfvae2_demo.py'
model = dict(autoencoder=dict(norm=dict(_delete_=True, type='RMSNorm2d')))
