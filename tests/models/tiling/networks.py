"""Small networks of every structure that is tiled, and what they give."""

import torch

from tests.helpers import noise
from wfvae_toolkit.registry import AUTOENCODERS

RESIDUAL = dict(downsample=dict(type='ResidualDownsample'), upsample=dict(type='ResidualUpsample'))
CONFIGS = {
    'default': {},
    '4x': dict(widths=(4, 8)),
    '16x, lists': dict(widths=(4, 4, 8, 8), encoder_layers=[3, 1, 2], decoder_layers=[2, 4, 3]),
    'one layer': dict(encoder_layers=1, decoder_layers=3),
    'no flow': dict(energy_flow=False),
    'no flow, one layer': dict(energy_flow=False, encoder_layers=1),
    'RMSNorm': dict(norm=dict(type='RMSNorm2d')),
    'residual': dict(**RESIDUAL),
    '32x': dict(widths=(4, 4, 8, 8, 8), latent_channels=4, encoder_layers=[1, 2, 1, 1], decoder_layers=[2, 2, 2, 3],
                latent_shortcuts=True, energy_flow=False, **RESIDUAL),
    '32x, flow': dict(widths=(4, 4, 8, 8, 8), encoder_layers=1, decoder_widths=(4, 4, 4, 4, 8), decoder_flow_width=3,
                      **RESIDUAL),
    'residual down, nearest up': dict(downsample=RESIDUAL['downsample'], output_activation=True),
    'db2': dict(wavelet=dict(type='DiscreteWavelet', name='db2')),
    'bior4.4': dict(wavelet=dict(type='DiscreteWavelet', name='bior4.4')),
    'PixelUnshuffle': dict(wavelet=dict(type='PixelUnshuffle')),
}


def build(seed=0, **settings):
    torch.manual_seed(seed)
    small = dict(type='WFVAE2Image', latent_channels=2, widths=(4, 8, 8), flow_width=4)
    model = AUTOENCODERS.build({**small, **settings}).eval()
    model.disable_tiling()
    return model


@torch.no_grad()
def results(model, height, width, batch=1):
    """Name -> everything that encode and decode give for a latent of this size; the decoder gets noise."""
    factor = model.downsample_factor
    encoded = model.encode(noise(batch, 3, height * factor, width * factor))
    decoded = model.decode(noise(batch, model.latent_channels, height, width))
    return {'mean': encoded.latent_dist.mean, 'logvar': encoded.latent_dist.logvar, 'sample': decoded.sample,
            **{f'encoder band {number}': band for number, band in enumerate(encoded.bands)},
            **{f'decoder band {number}': band for number, band in enumerate(decoded.bands)}}


def largest_difference(first, second):
    """Of all results, relative to the largest value of the result that it is in."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max() / second[name].abs().max()) for name in first)
