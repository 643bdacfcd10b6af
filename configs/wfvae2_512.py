"""WF-VAE 2 at 512 px: 8 latent channels, 8x downsampling. 16 images a GPU, 2 micro-batches an update."""

_base_ = ['_base_/runtime.py', '_base_/photos_512.py', '_base_/wfvae2.py']

train_cfg = dict(accumulation=2)
train_dataloader = dict(batch_size=16)
default_hooks = dict(discriminator=dict(start_iter=5))
