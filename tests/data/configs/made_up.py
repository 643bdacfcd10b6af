"""The default objective on drawn pictures of 64 px, a small network, both turns, a validation: seconds on a GPU."""

_base_ = ['../../../configs/wfvae2_demo.py']

model = dict(losses=dict(perceptual=None), discriminator=dict(num_layers=2))
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(
    memory=None,
    learning_rate=dict(warmup_iters=1, decay='constant'), discriminator=dict(start_iter=2), curves=None,
    logger=dict(interval=1),
    checkpoint=dict(interval=3))
visualizer = None
# No weights to look for.
val_evaluator = dict(metrics=dict(STLPIPS=None, LPIPS=None))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(_delete_=True, type='SyntheticImages', length=64, size=64))
val_dataloader = dict(
    batch_size=4,
    dataset=dict(_delete_=True, type='SyntheticImages', length=8, size=64, seed=1))
