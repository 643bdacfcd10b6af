"""The demo with distances of ST-LPIPS' VGG features; with weights in place of them it is DINOv2's."""

_base_ = '../wfvae2_demo.py'
model = dict(losses=dict(features=dict(type='FeatureLoss', features='stlpips-vgg', weight=0.2, crop=48)))
