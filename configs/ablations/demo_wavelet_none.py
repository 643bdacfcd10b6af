"""The demo without a wavelet: pixels of 2x2 blocks as channels."""

_base_ = '../wfvae2_demo.py'
model = dict(autoencoder=dict(wavelet=dict(_delete_=True, type='PixelUnshuffle')))
