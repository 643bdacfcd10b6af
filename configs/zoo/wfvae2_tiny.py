"""8x, 8 latent channels, 2.80 M parameters: the shipped model, trained on the photographs of `make zoo-data`."""

_base_ = ['../_base_/runtime.py', '../_base_/wfvae2.py']

model = dict(
    precision='fp32',
    autoencoder=dict(widths=(32, 64, 128), flow_width=32),
    discriminator=None,
    losses=dict(
        # A centre crop: on the whole image the perceptual network would take as long as all the rest.
        perceptual=dict(_delete_=True, type='STLPIPSLoss', net='alex', weight=0.1, crop=48),
        adversarial=None))

train_cfg = dict(max_iters=30_000, val_interval=2000)  # 0.98 gigapixels
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=1.5e-3, betas=(0.9, 0.99))), discriminator=None)

default_hooks = dict(
    learning_rate=dict(warmup_iters=100, decay='linear_tail', final_factor=0.01),
    discriminator=None,
    ema=dict(decay=0.998),
    flat_fields=None,
    checkpoint=dict(interval=500, max_keep_ckpts=2))

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
