"""8x, 8 latent channels, 2.84 M parameters: the shipped model, trained on the photographs of `make zoo-data`."""

_base_ = ['../_base_/runtime.py', '../_base_/wfvae2.py']

model = dict(
    precision='fp32',
    # Residual sampling and latent shortcuts, as the 32x network has them. No attention: at 1024 px it would be half of
    # the FLOPs, and docs/zoo.md shows no gain.
    autoencoder=dict(
        widths=(32, 64, 128), flow_width=28, downsample=dict(type='ResidualDownsample'),
        upsample=dict(type='ResidualUpsample'), latent_shortcuts=True,
        mid_blocks=[dict(type='ResidualBlock'), dict(type='ResidualBlock')]),
    discriminator=None,
    losses=dict(
        # A centre crop: on the whole image the perceptual network would take as long as all the rest.
        perceptual=dict(_delete_=True, type='STLPIPSLoss', net='alex', weight=0.1, crop=48),
        adversarial=None))

train_cfg = dict(max_iters=30_000, val_interval=1000)  # 0.98 gigapixels
optim_wrapper = dict(
    # SOAP (arXiv 2409.11321), of the package pytorch-optimizer.
    autoencoder=dict(optimizer=dict(
        _delete_=True, type='pytorch_optimizer.SOAP', lr=4.5e-3, betas=(0.95, 0.95), weight_decay=1e-4,
        precondition_frequency=10)),
    discriminator=None)

default_hooks = dict(
    learning_rate=dict(warmup_iters=100, decay='linear_tail', final_factor=0.01),
    discriminator=None,
    ema=dict(decay=0.998),
    flat_fields=None,
    checkpoint=dict(interval=250, max_keep_ckpts=2))

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        type='MixedDataset',
        sources=dict(
            scenes=dict(weight=6, dataset=dict(type='ImageFolder', data_root='data/zoo/train/scenes', cache_mib=500)),
            surfaces=dict(weight=2,
                          dataset=dict(type='ImageFolder', data_root='data/zoo/train/surfaces', cache_mib=500)),
            sky=dict(weight=1, dataset=dict(type='ImageFolder', data_root='data/zoo/train/sky', cache_mib=300)),
            text=dict(weight=1, dataset=dict(type='SyntheticImages', kinds=dict(text=1), cache_mib=200))),
        pipeline=[dict(type='RandomCrop', size=64, scale=(0.35, 1.0)), dict(type='RandomFlip')]))

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        type='ImageFolder', data_root='data/zoo/val',
        pipeline=[dict(type='ResizeShortSide', size=256), dict(type='CenterCrop', size=256)]))
