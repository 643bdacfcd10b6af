"""Three discriminators of three scales with feature matching."""

_base_ = '../wfvae2_1024.py'
model = dict(discriminator=dict(_delete_=True, type='MultiScaleDiscriminator'),
             losses=dict(matching=dict(type='FeatureMatchingLoss')))
