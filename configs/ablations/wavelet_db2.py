"""Longer filters than Haar's, orthogonal: Daubechies with two vanishing moments."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(wavelet=dict(_delete_=True, type='DiscreteWavelet', name='db2')))
