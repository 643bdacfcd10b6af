"""What the agreement of both wavelet pyramids is worth: the same without its loss."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(wavelet=None))
