"""Nothing at the latent's size between the stages and the last norm."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(mid_blocks=[]))
