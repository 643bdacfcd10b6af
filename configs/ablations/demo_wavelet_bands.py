"""The demo with L1 between the wavelet details of both pictures."""

_base_ = '../wfvae2_demo.py'
model = dict(losses=dict(bands=dict(type='WaveletBandLoss', weight=0.5)))
