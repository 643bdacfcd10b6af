"""A model of a few thousand parameters on 16 px crops. Tests set the data's folders."""

_base_ = 'wfvae_toolkit::_base_/runtime.py'

model = dict(
    type='AutoencoderTraining',
    autoencoder=dict(
        type='WFVAE2Image',
        latent_channels=4,
        widths=(8, 16),
        flow_width=4,
        wavelet=dict(type='Haar'),
        norm=dict(type='LayerNorm2d'),
        mid_blocks=[dict(type='ResidualBlock'), dict(type='SpatialAttention')]),
    discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8),
    losses=dict(
        pixel=dict(type='L1Loss'),
        kl=dict(type='KLLoss', weight=1e-3),
        wavelet=dict(type='WaveletFlowLoss', weight=0.1),
        adversarial=dict(type='AdversarialLoss', weight=0.5, balance=('pixel',))))

train_cfg = dict(max_iters=6, val_interval=3)
optim_wrapper = dict(
    autoencoder=dict(optimizer=dict(lr=1e-3)),
    discriminator=dict(optimizer=dict(lr=1e-3)))
default_hooks = dict(
    memory=None,  # it takes longer than this training
    learning_rate=dict(warmup_iters=2),
    discriminator=dict(start_iter=2),
    ema=dict(decay=0.9),
    pictures=dict(count=2),
    logger=dict(interval=2),
    checkpoint=dict(interval=3, save_best='PSNR'))
visualizer = dict(vis_backends=[])
# No weights to look for.
val_evaluator = dict(metrics=dict(STLPIPS=None, LPIPS=None))

train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        type='ImageFolder',
        data_root='to be set',
        pipeline=[dict(type='RandomCrop', size=16), dict(type='RandomFlip')]))
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type='ImageFolder', data_root='to be set', pipeline=[dict(type='CenterCrop', size=32)]))
