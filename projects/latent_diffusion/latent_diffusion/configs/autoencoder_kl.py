"""diffusers' AutoencoderKL with 8 latent channels, 2.79 M parameters, in the same loop."""

_base_ = 'default.py'
model = dict(
    autoencoder=dict(_delete_=True, type='DiffusersAutoencoderKL', latent_channels=8, widths=(32, 32, 64, 128),
                     layers=1),
    losses=dict(wavelet=None))
