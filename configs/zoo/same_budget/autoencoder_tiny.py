"""diffusers' AutoencoderTiny (TAESD) with 8 latent channels, 2.45 M parameters, in the loop of wfvae2_tiny."""

_base_ = '../wfvae2_tiny.py'
model = dict(
    autoencoder=dict(_delete_=True, type='DiffusersAutoencoderTiny', latent_channels=8),
    losses=dict(kl=None, wavelet=None))
# Of three rates 4.5e-3 is as good after four minutes and diverges in thirty, see docs/zoo.md.
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=1.5e-3)))
