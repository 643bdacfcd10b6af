"""GroupNorm in place of LayerNorm2d."""

_base_ = 'default.py'
model = dict(autoencoder=dict(norm=dict(_delete_=True, type='GroupNorm')))
