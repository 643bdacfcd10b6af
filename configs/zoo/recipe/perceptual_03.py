"""Three times the weight of the perceptual loss."""

_base_ = 'plain.py'
model = dict(losses=dict(perceptual=dict(weight=0.3)))
