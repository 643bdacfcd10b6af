"""The network of wfvae2-tiny with attention, trained in minutes on one core: the row to compare others with."""

_base_ = 'wfvae_toolkit::zoo/recipe/attention.py'

train_cfg = dict(max_iters=400)
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=1.5e-3)))
default_hooks = dict(learning_rate=dict(warmup_iters=40), checkpoint=dict(interval=100, save_best=None))
# compare.py scores crops of 64 px; tools/ablate.py takes these.
val_dataloader = dict(dataset=dict(
    pipeline=[dict(type='ResizeShortSide', size=128), dict(type='CenterCrop', size=128)]))
