"""The demo with three discriminators of three scales and feature matching."""

_base_ = '../wfvae2_demo.py'
model = dict(discriminator=dict(_delete_=True, type='MultiScaleDiscriminator', num_layers=2, width=32),
             losses=dict(matching=dict(type='FeatureMatchingLoss')))
