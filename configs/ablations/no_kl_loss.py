"""No KL: an autoencoder whose latents nothing holds together."""

_base_ = '../wfvae2_1024.py'
model = dict(losses=dict(kl=None))
