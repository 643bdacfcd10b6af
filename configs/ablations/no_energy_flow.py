"""No wavelet pyramid beside the features, and so no wavelet loss."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(energy_flow=False), losses=dict(wavelet=None))
