"""Batch norm in the discriminator in place of spectral norm."""

_base_ = '../wfvae2_1024.py'
model = dict(discriminator=dict(norm='batch'))
