"""The demo with the wavelet pyramid, but without its loss."""

_base_ = '../wfvae2_demo.py'
model = dict(losses=dict(wavelet=None))
