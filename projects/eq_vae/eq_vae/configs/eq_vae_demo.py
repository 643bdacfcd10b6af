"""The demo with latents that turn and scale with the image."""

_base_ = 'wfvae_toolkit::wfvae2_demo.py'
custom_imports = dict(imports='eq_vae')
model = dict(losses=dict(equivariance=dict(type='EquivarianceLoss', weight=1.0, probability=0.5)))
