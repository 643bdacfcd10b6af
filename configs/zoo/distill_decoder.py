"""A decoder of a quarter of the weights for the latents of wfvae2-tiny: its encoder stays as it is."""

_base_ = 'wfvae2_tiny.py'

load_from = dict(path='wfvae2-tiny', allow_missing=['autoencoder.decoder.*'])
model = dict(
    freeze=['autoencoder.encoder.*'],
    autoencoder=dict(decoder_widths=(16, 32, 64), decoder_flow_width=14),
    losses=dict(kl=None, wavelet=None))
