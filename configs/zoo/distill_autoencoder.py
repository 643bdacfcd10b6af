"""Encoder and decoder of a quarter of the weights that speak the latents of wfvae2-tiny."""

_base_ = 'wfvae2_tiny.py'

model = dict(
    autoencoder=dict(widths=(16, 32, 64), flow_width=14),
    losses=dict(distillation=dict(type='DistillationLoss', teacher='wfvae2-tiny', weight=10.0), kl=None))
