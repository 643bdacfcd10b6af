"""The first GAN objective in place of the hinge."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(adversarial=dict(objective='vanilla')))
