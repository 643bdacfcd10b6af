"""One residual block a stage in the encoder and wider stages: 2.96 M."""

_base_ = 'plain.py'
model = dict(autoencoder=dict(widths=(48, 80, 128), encoder_layers=1))
