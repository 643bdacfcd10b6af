"""Without the wavelet pyramid beside the features, and so without its loss."""

_base_ = 'default.py'
model = dict(autoencoder=dict(energy_flow=False), losses=dict(wavelet=None))
