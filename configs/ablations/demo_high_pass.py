"""The demo with Charbonnier's penalty on high frequencies, as in LiteVAE."""

_base_ = '../wfvae2_demo.py'
model = dict(losses=dict(high_pass=dict(type='HighPassLoss', weight=1.0)))
