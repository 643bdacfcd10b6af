"""No L1: the perceptual row alone says how near the picture is."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(pixel=None))
