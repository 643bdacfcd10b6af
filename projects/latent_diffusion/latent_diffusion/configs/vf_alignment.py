"""Latents that follow a frozen AlexNet's features: projects/vf_alignment, which has to be importable."""

_base_ = 'default.py'
custom_imports = dict(imports='vf_alignment')
model = dict(losses=dict(vf=dict(
    type='VFAlignmentLoss', weight=0.1, balance=('pixel', 'perceptual'), balance_at='encoder.conv_out')))
