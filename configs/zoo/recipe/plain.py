"""Strided and nearest-neighbour sampling, attention, no latent shortcuts, AdamW: what the other recipes start from."""

_base_ = 'attention.py'
model = dict(autoencoder=dict(downsample=None, upsample=None, latent_shortcuts=False, flow_width=32))
optim_wrapper = dict(autoencoder=dict(optimizer=dict(
    _delete_=True, type='AdamW', lr=1.5e-3, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)))
