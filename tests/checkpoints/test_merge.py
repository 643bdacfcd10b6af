
import pytest
import torch

from tests.helpers import trained_small
from wfvae_toolkit.checkpoints import CheckpointError, merge_models
from wfvae_toolkit.models.latent_statistics import LatentStatistics


@pytest.mark.parametrize(('of_encoder', 'of_decoder'), [
    ({}, {}),
    (dict(widths=(8, 16), encoder_layers=3, flow_width=5), dict(decoder_widths=(16, 8), decoder_layers=3)),
    (dict(flow_width=6), dict(decoder_flow_width=7, output_activation=True)),
    (dict(downsample=dict(type='ResidualDownsample'), widths=(8, 16)), dict(upsample=dict(type='NearestUpsample'))),
    (dict(energy_flow=False), dict(energy_flow=False, flow_width=9)),
    ({}, dict(norm=dict(type='LayerNorm2d', eps=1e-6), checkpoint_activations=True)),
])
def test_halves_compute_what_they_did(make_images, of_encoder, of_decoder):
    statistics = LatentStatistics((0.0, 1.0, 2.0), (1.0, 2.0, 3.0))
    encoder = trained_small(0, statistics, 'a', **of_encoder)
    decoder = trained_small(1, LatentStatistics.identity(3), 'b', **of_decoder)
    merged, images = merge_models(encoder, decoder), make_images()
    latents = encoder.build().encode(images).latent_dist.mode()
    assert torch.equal(merged.build().encode(images).latent_dist.mode(), latents)
    assert torch.equal(merged.build().decode(latents).sample, decoder.build().decode(latents).sample)
    assert merged.statistics == statistics


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(latent_channels=4), r'differ in latent_channels \(3 and 4\)'),
    (dict(widths=(8, 12, 12)), 'a has factor 4, b factor 8'),
    (dict(norm=dict(type='RMSNorm2d')), "differ in norm .*'LayerNorm2d'.*'RMSNorm2d'"),
    (dict(wavelet=dict(type='PixelUnshuffle')), 'differ in wavelet'),
    (dict(energy_flow=False), r'differ in energy_flow \(True and False\)'),
    (dict(mid_blocks=[], norm=dict(type='RMSNorm2d')), 'differ in mid_blocks .*, norm .*; one model cannot have both'),
])
def test_settings_that_one_model_cannot_have_are_named(settings, message):
    with pytest.raises(CheckpointError, match=message):
        merge_models(trained_small(0, name='a'), trained_small(1, name='b', **settings))


def test_weights_must_fit():
    broken = trained_small(1, name='b')
    broken.state['decoder.conv_in.bias'] = torch.zeros(3)
    with pytest.raises(CheckpointError, match='decoder.conv_in.bias'):
        merge_models(trained_small(0, name='a'), broken)
    broken.state['extra'] = torch.zeros(3)
    with pytest.raises(CheckpointError, match='extra belongs to neither encoder nor decoder'):
        merge_models(trained_small(0, name='a'), broken)
