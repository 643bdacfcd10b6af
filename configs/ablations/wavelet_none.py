"""No wavelet: pixels of 2x2 blocks as channels, at every level."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(wavelet=dict(_delete_=True, type='PixelUnshuffle')))
