"""Residual sampling and latent shortcuts, as the 32x network has them; a narrower flow keeps it at 3 M."""

_base_ = 'plain.py'
model = dict(autoencoder=dict(
    downsample=dict(type='ResidualDownsample'), upsample=dict(type='ResidualUpsample'), latent_shortcuts=True,
    flow_width=28))
