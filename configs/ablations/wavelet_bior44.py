"""The smooth, symmetric wavelet of lossy JPEG 2000 (CDF 9/7)."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(wavelet=dict(_delete_=True, type='DiscreteWavelet', name='bior4.4')))
