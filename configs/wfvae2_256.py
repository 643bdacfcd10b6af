"""WF-VAE 2 at 256 px: 8 latent channels, 8x downsampling. 32 images a GPU, 1 micro-batch an update."""

_base_ = ['_base_/runtime.py', '_base_/photos_256.py', '_base_/wfvae2.py']

train_cfg = dict(accumulation=1)
train_dataloader = dict(batch_size=32)
default_hooks = dict(discriminator=dict(start_iter=5))
