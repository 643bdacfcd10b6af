"""A small WF-VAE 2 that two CPU cores train in minutes on the photographs of `make demo-data`."""

_base_ = ['_base_/runtime.py', '_base_/wfvae2.py']

model = dict(
    precision='fp32',
    autoencoder=dict(widths=(32, 64, 128), flow_width=32),
    discriminator=dict(num_layers=3, width=32),
    losses=dict(
        # A centre crop: on the whole image the perceptual network would take as long as all the rest.
        perceptual=dict(_delete_=True, type='STLPIPSLoss', net='alex', weight=0.1, crop=48),
        adversarial=dict(weight=0.1)))

train_cfg = dict(max_iters=1200, val_interval=400)
optim_wrapper = dict(
    autoencoder=dict(optimizer=dict(lr=1.5e-3, betas=(0.9, 0.99))),
    discriminator=dict(optimizer=dict(lr=5e-4, betas=(0.5, 0.99))))

default_hooks = dict(
    learning_rate=dict(warmup_iters=50, decay='cosine', final_factor=0.01),
    discriminator=dict(start_iter=1080),
    ema=dict(decay=0.99),
    flat_fields=None,  # grids remain after minutes of training: the hook would warn each time
    pictures=dict(count=2),
    checkpoint=dict(interval=400, max_keep_ckpts=2, save_best=None))

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        type='ImageFolder',
        data_root='data/demo/train',
        cache_mib=100,
        pipeline=[dict(type='RandomCrop', size=64, scale=(0.4, 1.0)), dict(type='RandomFlip')]))

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(type='ImageFolder', data_root='data/demo/val', pipeline=[dict(type='CenterCrop', size=256)]))
