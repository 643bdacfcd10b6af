"""The demo without the wavelet pyramid beside the features, and so without its loss."""

_base_ = '../wfvae2_demo.py'
model = dict(autoencoder=dict(energy_flow=False), losses=dict(wavelet=None))
