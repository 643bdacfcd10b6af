"""The demo with the focal frequency loss."""

_base_ = '../wfvae2_demo.py'
model = dict(losses=dict(frequency=dict(type='FocalFrequencyLoss', weight=5.0)))
