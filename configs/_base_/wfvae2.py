"""WF-VAE 2, 8 latent channels, 8x downsampling, with the complete objective."""

model = dict(
    type='AutoencoderTraining',
    precision='bf16',
    turns='alternate',
    normalize=False,
    learn_logvar=False,
    freeze=[],
    compile=None,
    autoencoder=dict(
        type='WFVAE2Image',
        latent_channels=8,
        widths=(128, 256, 512),
        encoder_layers=2,
        decoder_layers=2,
        energy_flow=True,
        flow_width=128,
        wavelet=dict(type='Haar'),
        norm=dict(type='LayerNorm2d'),
        mid_blocks=[dict(type='ResidualBlock'), dict(type='SpatialAttention'), dict(type='ResidualBlock')]),
    discriminator=dict(type='PatchDiscriminator', num_layers=4),
    losses=dict(
        pixel=dict(type='L1Loss'),
        perceptual=dict(type='LPIPSLoss', net='vgg'),
        kl=dict(type='KLLoss', weight=1e-6),
        wavelet=dict(type='WaveletFlowLoss', weight=0.1),
        adversarial=dict(type='AdversarialLoss', weight=0.5, balance=('pixel', 'perceptual'))))
