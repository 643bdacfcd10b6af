"""The demo with latents aligned with the features of a frozen AlexNet, which needs no download."""

_base_ = 'wfvae_toolkit::wfvae2_demo.py'
custom_imports = dict(imports='vf_alignment')
model = dict(losses=dict(vf=dict(
    type='VFAlignmentLoss', weight=0.1, balance=('pixel', 'perceptual'), balance_at='encoder.conv_out')))
