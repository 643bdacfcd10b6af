"""32x with the wavelet pyramid and its loss."""

_base_ = '../wfvae2_32x_1024.py'
model = dict(autoencoder=dict(energy_flow=True),
             losses=dict(wavelet=dict(_delete_=True, type='WaveletFlowLoss', weight=0.1)))
