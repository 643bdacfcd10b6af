"""Latent shortcuts, and weights that begin at the best linear code; tools/analysis_tools/linear_code.py writes them."""

_base_ = 'plain.py'
load_from = 'work_dirs/linear_start.pth'
model = dict(autoencoder=dict(latent_shortcuts=True))
# At the rate of `plain` the start is lost within 50 updates.
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=3e-4)))
