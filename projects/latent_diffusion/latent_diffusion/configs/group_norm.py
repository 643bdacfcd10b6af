"""GroupNorm in place of LayerNorm2d; of 4 groups, because the widths with the energy flow are multiples of 4."""

_base_ = 'default.py'
model = dict(autoencoder=dict(norm=dict(_delete_=True, type='GroupNorm', groups=4)))
