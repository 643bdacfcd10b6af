"""Twice the learning rate."""

_base_ = 'plain.py'
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=3e-3)))
