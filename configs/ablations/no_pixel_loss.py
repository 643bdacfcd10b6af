"""No L1: only the perceptual row compares the pictures."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(pixel=None))
