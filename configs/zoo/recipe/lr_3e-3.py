"""Twice the learning rate."""

_base_ = '../wfvae2_tiny.py'
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=3e-3)))
