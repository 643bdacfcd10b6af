"""The demo with both networks trained on the same images in every iteration."""

_base_ = '../wfvae2_demo.py'
model = dict(turns='joint')
