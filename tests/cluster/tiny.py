"""The tests' tiny model on drawn pictures; both networks train in turn from the start."""

_base_ = '../data/configs/tiny.py'

train_cfg = dict(max_iters=8, val_interval=4)
default_hooks = dict(
    curves=None, pictures=None, flat_fields=None,
    discriminator=dict(start_iter=0),
    logger=dict(interval=2),
    checkpoint=dict(interval=4))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='SyntheticImages', length=64, size=32,
        pipeline=[dict(type='RandomCrop', size=16), dict(type='RandomFlip')]))
val_dataloader = dict(dataset=dict(_delete_=True, type='SyntheticImages', length=5, size=32, seed=1))
