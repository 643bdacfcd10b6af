"""Both networks trained on the same images in every iteration."""

_base_ = '../wfvae2_1024.py'
model = dict(turns='joint')
