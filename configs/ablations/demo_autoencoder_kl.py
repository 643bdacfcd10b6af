"""diffusers' AutoencoderKL in the demo: as many parameters (2.79 M against 2.80 M) and the same time of training."""

_base_ = '../wfvae2_demo.py'
model = dict(
    autoencoder=dict(_delete_=True, type='DiffusersAutoencoderKL', latent_channels=8, widths=(32, 32, 64, 128),
                     layers=1),
    losses=dict(wavelet=None))
train_cfg = dict(max_iters=750, val_interval=250)
default_hooks = dict(discriminator=dict(start_iter=675))
