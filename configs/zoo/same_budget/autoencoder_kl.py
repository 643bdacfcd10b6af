"""diffusers' AutoencoderKL with 8 latent channels, 2.79 M parameters, in the loop of wfvae2_tiny."""

_base_ = '../wfvae2_tiny.py'
model = dict(
    autoencoder=dict(_delete_=True, type='DiffusersAutoencoderKL', latent_channels=8, widths=(32, 32, 64, 128),
                     layers=1),
    losses=dict(wavelet=None))
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=1.5e-3)))  # the best of three, see docs/zoo.md
