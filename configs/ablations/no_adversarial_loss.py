"""No discriminator."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(adversarial=None))
