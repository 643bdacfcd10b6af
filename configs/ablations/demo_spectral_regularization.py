"""The demo with latents whose finest wavelet details only hold fine details of the picture."""

_base_ = '../wfvae2_demo.py'
model = dict(losses=dict(spectral=dict(type='SpectralRegularizationLoss', weight=0.5)))
