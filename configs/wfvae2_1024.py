"""WF-VAE 2 at 1024 px: 8 latent channels, 8x downsampling. 4 images a GPU, 8 micro-batches an update."""

_base_ = ['_base_/runtime.py', '_base_/photos_1024.py', '_base_/wfvae2.py']

train_cfg = dict(accumulation=8)
default_hooks = dict(discriminator=dict(start_iter=5))
