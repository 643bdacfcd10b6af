"""Folders data/train and data/val at 256 px."""

_base_ = 'photos_1024.py'

train_dataloader = dict(
    dataset=dict(pipeline=[dict(type='ResizeShortSide', size=256), dict(type='CenterCrop', size=256)]))
val_dataloader = dict(
    dataset=dict(pipeline=[dict(type='ResizeShortSide', size=256), dict(type='CenterCrop', size=256)]))
