"""LiteVAE-like: wavelet bands into a light encoder, an ordinary decoder; 43.0 M parameters against 44.1 M."""

_base_ = '../wfvae2_1024.py'
model = dict(autoencoder=dict(_delete_=True, type='LiteVAE'), losses=dict(wavelet=None))
