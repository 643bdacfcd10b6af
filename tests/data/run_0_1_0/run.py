"""The run whose checkpoint stands here: version 0.1.0 wrote it, and later versions go on from it."""

_base_ = '../configs/tiny.py'

model = dict(
    autoencoder=dict(widths=(4, 8), flow_width=2),
    discriminator=dict(width=2))
train_cfg = dict(max_iters=4, val_interval=4)
train_dataloader = dict(
    dataset=dict(_delete_=True, type='SyntheticImages', size=16, length=8, kinds=dict(texture=1, gradient=1)))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='SyntheticImages', size=16, length=8, kinds=dict(texture=1, gradient=1)))
default_hooks = dict(curves=None, pictures=None, logger=dict(interval=1), checkpoint=dict(interval=2, save_best=None))
