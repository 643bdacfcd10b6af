"""32x without the shortcuts around the convs at the latent."""

_base_ = '../wfvae2_32x_1024.py'
model = dict(autoencoder=dict(latent_shortcuts=False))
