"""A network like LiteVAE with 8 latent channels, 2.82 M parameters, in the loop of wfvae2_tiny."""

_base_ = '../wfvae2_tiny.py'
model = dict(
    autoencoder=dict(_delete_=True, type='LiteVAE', extractor_widths=(16, 32), aggregator_widths=(32, 64, 128),
                     decoder_widths=(32, 32, 64, 128)),
    losses=dict(wavelet=None))
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=5e-4)))  # the best of three, see docs/zoo.md
