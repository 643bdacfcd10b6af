"""The demo with longer filters than Haar's."""

_base_ = '../wfvae2_demo.py'
model = dict(autoencoder=dict(wavelet=dict(_delete_=True, type='DiscreteWavelet', name='db2')))
