"""Folders data/train and data/val at 512 px."""

_base_ = 'photos_1024.py'

train_dataloader = dict(
    dataset=dict(pipeline=[dict(type='ResizeShortSide', size=512), dict(type='CenterCrop', size=512)]))
val_dataloader = dict(
    dataset=dict(pipeline=[dict(type='ResizeShortSide', size=512), dict(type='CenterCrop', size=512)]))
