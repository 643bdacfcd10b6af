"""The trained demo's decoder, trained further with its encoder frozen: latents do not change."""

_base_ = '../wfvae2_demo.py'
load_from = 'work_dirs/demo'
model = dict(freeze=['autoencoder.encoder.*'])
train_cfg = dict(max_iters=1000, val_interval=500)
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=7e-4)))
default_hooks = dict(discriminator=dict(start_iter=900))
