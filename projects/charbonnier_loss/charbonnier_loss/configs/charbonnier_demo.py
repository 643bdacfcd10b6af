"""The demo with Charbonnier's penalty in place of L1."""

_base_ = 'wfvae_toolkit::wfvae2_demo.py'
custom_imports = dict(imports='charbonnier_loss')
model = dict(losses=dict(pixel=dict(_delete_=True, type='CharbonnierLoss', eps=1e-3)))
