"""The demo with MyLoss as one more row of its objective."""

_base_ = 'wfvae_toolkit::wfvae2_demo.py'
custom_imports = dict(imports='my_part')
model = dict(losses=dict(mine=dict(type='MyLoss', weight=0.1)))
