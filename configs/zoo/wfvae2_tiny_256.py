"""The second part of the training: from the first part's weights, on crops of 256 px."""

_base_ = 'wfvae2_tiny.py'

load_from = 'work_dirs/wfvae2_tiny'

train_cfg = dict(max_iters=4000, val_interval=500)  # 0.52 gigapixels
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=5e-4)))
default_hooks = dict(checkpoint=dict(interval=100))
train_dataloader = dict(
    batch_size=2,
    dataset=dict(pipeline=[dict(type='RandomCrop', size=256, scale=(0.35, 1.0)), dict(type='RandomFlip')]))
