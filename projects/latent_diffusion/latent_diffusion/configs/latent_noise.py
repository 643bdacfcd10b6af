"""The decoder reads noised latents, as RAE and l-DeTok train it."""

_base_ = 'default.py'
model = dict(latent_transforms=[dict(type='NoisyLatents', max_std=0.2, relative=True)])
