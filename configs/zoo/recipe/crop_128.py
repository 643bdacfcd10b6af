"""Crops of 128 px, as many pixels an update."""

_base_ = 'plain.py'
train_dataloader = dict(
    batch_size=2,
    dataset=dict(pipeline=[dict(type='RandomCrop', size=128, scale=(0.35, 1.0)), dict(type='RandomFlip')]))
