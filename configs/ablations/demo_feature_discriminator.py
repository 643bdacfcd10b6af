"""The demo with a discriminator on the features of a frozen AlexNet, which needs no download."""

_base_ = '../wfvae2_demo.py'
model = dict(
    discriminator=dict(_delete_=True, type='FeatureDiscriminator', features='stlpips-alex', width=32),
    discriminator_augmentation=dict(type='DiffAugment'))
