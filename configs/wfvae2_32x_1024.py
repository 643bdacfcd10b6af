"""WF-VAE 2 at 1024 px: 64 latent channels, 32x downsampling; residual sampling, latent shortcuts, ECA, no energy flow.

The encoder has 145.55 M parameters, the decoder 322.25 M. LayerNorm matters here: GroupNorm with pixel-shuffle gave
migrating coloured artefacts.
"""

_base_ = 'wfvae2_1024.py'

eca = dict(type='ECA')
model = dict(
    autoencoder=dict(
        latent_channels=64,
        widths=(256, 512, 512, 1024, 1024),
        encoder_layers=(4, 4, 4, 2),
        decoder_layers=(5, 5, 5, 3),
        energy_flow=False,
        channel_attention=eca,
        mid_blocks=[dict(type='ResidualBlock', channel_attention=eca), dict(type='SpatialAttention'),
                    dict(type='ResidualBlock', channel_attention=eca)],
        downsample=dict(type='ResidualDownsample'),
        upsample=dict(type='ResidualUpsample'),
        latent_shortcuts=True,
        output_activation=True),
    losses=dict(wavelet=None))

train_dataloader = dict(batch_size=1)
train_cfg = dict(accumulation=4)
optim_wrapper = dict(discriminator=dict(optimizer=dict(lr=1e-5)))
# The discriminator learns from the first update; the adversarial loss starts late.
default_hooks = dict(discriminator=dict(start_iter=80_000, train_iter=0))
