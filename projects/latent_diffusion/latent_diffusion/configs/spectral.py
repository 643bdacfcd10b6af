"""Spectral self-regularisation: the finest wavelet details of the latents only hold fine details of the picture."""

_base_ = 'default.py'
model = dict(losses=dict(spectral=dict(type='SpectralRegularizationLoss', weight=0.5)))
