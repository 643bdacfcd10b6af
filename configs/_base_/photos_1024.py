"""Folders data/train and data/val at 1024 px: short side resized, centre crop."""

train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    pin_memory=True,
    persistent_workers=True,
    dataset=dict(
        type='ImageFolder',
        data_root='data/train',
        pipeline=[dict(type='ResizeShortSide', size=1024), dict(type='CenterCrop', size=1024)]))

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    dataset=dict(
        type='ImageFolder',
        data_root='data/val',
        pipeline=[dict(type='ResizeShortSide', size=1024), dict(type='CenterCrop', size=1024)]))
