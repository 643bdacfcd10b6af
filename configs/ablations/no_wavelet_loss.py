"""The wavelet pyramid without its loss: nothing makes both pyramids agree."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(wavelet=None))
