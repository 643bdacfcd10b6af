"""The demo with 1 - SSIM."""

_base_ = '../wfvae2_demo.py'
model = dict(losses=dict(ssim=dict(type='SSIMLoss', weight=0.2)))
