"""A discriminator without any norm."""

_base_ = '../wfvae2_1024.py'
model = dict(discriminator=dict(norm='none'))
