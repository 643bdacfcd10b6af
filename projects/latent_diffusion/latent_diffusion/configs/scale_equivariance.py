"""Latents that shrink with the picture (arXiv 2502.14831): projects/eq_vae, which has to be importable."""

_base_ = 'default.py'
custom_imports = dict(imports='eq_vae')
model = dict(losses=dict(equivariance=dict(
    type='EquivarianceLoss', weight=1.0, probability=0.5, smallest=0.25, largest=0.5, isotropic=True, turns=False)))
