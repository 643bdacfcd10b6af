"""The training of the shipped model, made small: the commit that trains it wrote the checkpoint that stands here."""

_base_ = '../../../configs/zoo/wfvae2_tiny.py'

model = dict(
    autoencoder=dict(widths=(4, 8), latent_channels=2, flow_width=4),
    losses=dict(perceptual=None))
train_cfg = dict(max_iters=4, val_interval=4)
train_dataloader = dict(
    batch_size=2, num_workers=0,
    dataset=dict(_delete_=True, type='SyntheticImages', size=16, length=8, kinds=dict(texture=1, gradient=1)))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='SyntheticImages', size=16, length=8, kinds=dict(texture=1, gradient=1)))
val_evaluator = dict(metrics=dict(STLPIPS=None, LPIPS=None))
visualizer = dict(vis_backends=[])
default_hooks = dict(
    learning_rate=dict(warmup_iters=1), curves=None, pictures=None, logger=dict(interval=1),
    checkpoint=dict(interval=2, save_best=None))
