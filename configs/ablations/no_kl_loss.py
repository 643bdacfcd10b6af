"""No KL: nothing keeps the latents near the standard normal."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(kl=None))
