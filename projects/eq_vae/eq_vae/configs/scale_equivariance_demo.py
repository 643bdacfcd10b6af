"""The demo with latents that shrink with the image, by 2 to 4 times (arXiv 2502.14831)."""

_base_ = 'wfvae_toolkit::wfvae2_demo.py'
custom_imports = dict(imports='eq_vae')
model = dict(losses=dict(equivariance=dict(
    type='EquivarianceLoss', weight=1.0, probability=0.5, smallest=0.25, largest=0.5, isotropic=True, turns=False)))
