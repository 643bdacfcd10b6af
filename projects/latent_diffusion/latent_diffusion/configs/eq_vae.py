"""Latents that turn and scale with the picture: projects/eq_vae, which has to be importable."""

_base_ = 'default.py'
custom_imports = dict(imports='eq_vae')
model = dict(losses=dict(equivariance=dict(type='EquivarianceLoss', weight=1.0, probability=0.5)))
