"""LiteVAE-like in the demo: 2.82 M parameters against 2.80 M, the decoder of demo_autoencoder_kl."""

_base_ = '../wfvae2_demo.py'
model = dict(
    autoencoder=dict(_delete_=True, type='LiteVAE', extractor_widths=(16, 32), aggregator_widths=(32, 64, 128),
                     decoder_widths=(32, 32, 64, 128)),
    losses=dict(wavelet=None))
