"""The demo with a discriminator that judges each pixel and the whole image."""

_base_ = '../wfvae2_demo.py'
model = dict(
    discriminator=dict(_delete_=True, type='UNetDiscriminator', num_layers=3, width=16))
