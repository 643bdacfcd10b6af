from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers import count_parameters
from wfvae_toolkit.models.layers import ResidualBlock
from wfvae_toolkit.models.wavelets import DiscreteWavelet, Haar
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.config import load_config

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
NORM = dict(type='LayerNorm2d')


def build(seed=0, **settings):
    torch.manual_seed(seed)
    small = dict(type='WFVAE2Image', latent_channels=3, widths=(8, 16, 24), flow_width=4)
    return AUTOENCODERS.build({**small, **settings}).eval()


def images(height=16, width=24):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


# size and reference

@pytest.mark.parametrize('name', ['wfvae2_1024', 'wfvae2_512', 'wfvae2_256'])
def test_parameter_counts_of_the_default(name):
    with torch.device('meta'):
        model = AUTOENCODERS.build(load_config(CONFIGS / f'{name}.py').model.autoencoder)
    assert (count_parameters(model.encoder), count_parameters(model.decoder)) == (18_336_016, 25_774_500)
    assert (model.downsample_factor, model.latent_channels) == (8, 8)


def test_defaults_of_the_class_are_the_default_config():
    config = dict(load_config(CONFIGS / 'wfvae2_1024.py').model.autoencoder)
    with torch.device('meta'):
        expected, built = AUTOENCODERS.build(config), AUTOENCODERS.build(dict(type='WFVAE2Image'))
    assert repr(built) == repr(expected)


def test_equals_the_earlier_implementation(reference):
    model = AUTOENCODERS.build(reference.autoencoder).eval()
    model.load_state_dict(reference.weights)
    with torch.no_grad():
        encoded = model.encode(reference.io['input'])
        decoded = model.decode(encoded.latent_dist.mode())
    measured = {'mean': encoded.latent_dist.mean, 'logvar': encoded.latent_dist.logvar, 'recon': decoded.sample,
                **{f'enc_coeffs.{i}': band for i, band in enumerate(encoded.bands)},
                **{f'dec_coeffs.{i}': band for i, band in enumerate(decoded.bands)}}
    assert measured.keys() == reference.io.keys() - {'input'}
    for name, value in measured.items():
        expected = reference.io[name]
        assert value.shape == expected.shape, name
        assert (value - expected).abs().max() <= 1e-5 * expected.abs().max(), name


# energy flow

@pytest.mark.parametrize('wavelet', [dict(type='Haar'), dict(type='DiscreteWavelet', name='db2')])
def test_encoder_bands_are_the_pyramid_of_the_image(wavelet):
    transform = Haar() if wavelet['type'] == 'Haar' else DiscreteWavelet('db2')
    level = transform.analyze(images())
    for band in build(wavelet=wavelet).encode(images()).bands:
        level = transform.analyze(level[:, :3])
        torch.testing.assert_close(band, level)
    assert band.shape == (2, 12, 2, 3)


def test_decoder_bands_are_added_up_the_pyramid():
    model = build()
    # Silent later stages: what they give is what they got from below.
    for conv in (model.decoder.stages[1].flow_out, model.decoder.conv_out):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    decoded = model.decode(torch.randn(2, 3, 2, 3))
    low = Haar().synthesize(decoded.bands[0])
    assert low.std() > 0
    torch.testing.assert_close(decoded.bands[1], torch.cat([low, torch.zeros(2, 9, 4, 6)], dim=1))
    low = Haar().synthesize(decoded.bands[1])
    torch.testing.assert_close(decoded.sample, Haar().synthesize(torch.cat([low, torch.zeros(2, 9, 8, 12)], dim=1)))


def test_without_energy_flow():
    model = build(energy_flow=False)
    encoded = model.encode(images())
    decoded = model.decode(encoded.latent_dist.mode())
    assert encoded.bands == decoded.bands == ()
    assert decoded.sample.shape == (2, 3, 16, 24)
    assert not [name for name, _ in model.named_parameters() if 'flow' in name]
    # The last transform stays: an LL band of 2c is an image of c.
    nn.init.zeros_(model.decoder.conv_out.weight)
    model.decoder.conv_out.bias.data = torch.tensor([0.2, 0.4, 0.6] + [0.0] * 9)
    expected = torch.tensor([0.1, 0.2, 0.3])[:, None, None].expand(2, 3, 16, 24)
    torch.testing.assert_close(model(images()), expected)


def test_without_energy_flow_its_widths_do_not_matter():
    assert count_parameters(build(energy_flow=False, flow_width=99)) == count_parameters(build(energy_flow=False))


def test_energy_flow_reaches_the_latent():
    model = build()
    before = model.encode(images()).latent_dist.mean
    model.encoder.stages[1].flow_in.bias.data += 1
    assert not torch.allclose(model.encode(images()).latent_dist.mean, before)


# structure

def test_encoder_and_decoder_may_differ():
    symmetric = build()
    model = build(decoder_widths=(4, 6, 8), decoder_flow_width=2, decoder_layers=3)
    assert count_parameters(model.encoder) == count_parameters(symmetric.encoder)
    assert count_parameters(model.decoder) < count_parameters(symmetric.decoder)
    assert [conv.out_channels for conv in (model.encoder.conv_in, model.decoder.conv_in)] == [8, 8]
    assert model.last_layer.shape == (12, 4, 3, 3)
    assert [stage.flow_out.in_channels for stage in model.decoder.stages] == [2, 2]
    assert model(images()).shape == (2, 3, 16, 24)


def test_layers_are_listed_in_the_direction_of_the_data():
    # A block more at one stage costs that stage's width: 8, then 16 in the encoder, 24, then 16 in the decoder.
    def extra(part, **settings):
        changed, plain = build(**settings), build(encoder_layers=1)
        return count_parameters(getattr(changed, part)) - count_parameters(getattr(plain, part))

    def block(width):
        return count_parameters(ResidualBlock(width, NORM))

    assert extra('encoder', encoder_layers=[2, 1]) == block(8)
    assert extra('encoder', encoder_layers=[1, 3]) == 2 * block(16)
    assert extra('encoder', encoder_layers=2) == block(8) + block(16)
    assert extra('decoder', decoder_layers=[3, 2]) == block(24)
    assert extra('decoder', decoder_layers=[2, 4]) == 2 * block(16)
    assert extra('decoder', decoder_layers=3) == block(24) + block(16)


def test_factor_follows_from_the_widths():
    model = build(widths=(8, 8, 8, 8))
    assert model.downsample_factor == 16
    assert model.encode(images(32, 48)).latent_dist.mean.shape == (2, 3, 2, 3)


def test_mid_blocks_are_a_list():
    without = build(mid_blocks=[])
    model = build(mid_blocks=[dict(type='ResidualBlock', dropout=0.5)])
    assert count_parameters(model) - count_parameters(without) == 2 * count_parameters(ResidualBlock(24, NORM))
    assert model(images()).shape == without(images()).shape


def test_dropout_is_that_of_the_stages():
    model = build(dropout=0.5)
    torch.testing.assert_close(model(images()), build()(images()))
    model.train()
    assert not torch.allclose(model(images()), model(images()))
    h = torch.randn(2, 24, 2, 3)
    assert torch.equal(model.encoder.mid(h), model.encoder.mid(h))


# inputs

@pytest.mark.parametrize('settings', [{}, dict(norm=dict(type='GroupNorm', groups=4)), dict(energy_flow=False)])
def test_layout_of_the_image_does_not_matter(settings):
    model = build(**settings)
    reconstruction = model(images())
    torch.testing.assert_close(model(images().contiguous(memory_format=torch.channels_last)), reconstruction)
    parts = torch.cat([model(images()[:1]), model(images()[1:])])
    torch.testing.assert_close(parts, reconstruction)


def test_float64_stays():
    encoded = build().double().encode(images().double())
    assert encoded.latent_dist.mean.dtype == torch.float64


@pytest.mark.parametrize('wavelet', ['haar', 'db4', 'bior4.4', 'rbio2.2', 'coif1'])
def test_any_wavelet_at_any_size(wavelet):
    model = build(wavelet=dict(type='DiscreteWavelet', name=wavelet))
    assert model.state_dict().keys() == build().state_dict().keys()
    for size in ((8, 8), (24, 40)):
        assert model(images(*size)).shape == (2, 3, *size)
    if wavelet == 'haar':
        torch.testing.assert_close(model(images()), build()(images()))


@pytest.mark.parametrize('norm', [dict(type='LayerNorm2d'), dict(type='RMSNorm2d'), dict(type='GroupNorm', groups=4)])
def test_any_norm_stands_everywhere(norm):
    model = build(norm=norm)
    norms = [module for module in model.modules() if type(module).__name__ == norm['type']]
    # Two a residual block, one an attention, one before each last conv.
    blocks = sum(isinstance(module, ResidualBlock) for module in model.modules())
    assert len(norms) == 2 * blocks + 2 + 2
    reconstruction = model(images())
    assert reconstruction.isfinite().all()
    # Normalised inside: the image's size of the latent does not scale the features after the mid blocks.
    model.encoder.norm_out.weight.data.zero_()
    if norm['type'] != 'RMSNorm2d':
        model.encoder.norm_out.bias.data.zero_()
    mean = model.encode(images()).latent_dist.mean
    torch.testing.assert_close(mean, model.encoder.conv_out.bias[:3, None, None].expand_as(mean))


# errors

@pytest.mark.parametrize(('settings', 'message'), [
    (dict(latent_channels=0), 'latent_channels=0: a positive integer'),
    (dict(widths=(8,)), r'widths=\(8,\): a list of at least two entries'),
    (dict(widths=(8, 0)), r'widths\[1\]=0: a positive integer'),
    (dict(decoder_widths=(8, 1.5, 4)), r'decoder_widths\[1\]=1.5: a positive integer'),
    (dict(decoder_widths=(8, 16)), '2 decoder_widths for 3 widths'),
    (dict(flow_width=0), 'flow_width=0: a positive integer'),
    (dict(decoder_flow_width=0), 'decoder_flow_width=0: a positive integer'),
    (dict(encoder_layers=0), 'encoder_layers=0: every stage needs at least 1'),
    (dict(encoder_layers=[1]), r'encoder_layers=\[1\]: give one number or a list of 2'),
    (dict(decoder_layers=1), 'decoder_layers=1: every stage needs at least 2'),
    (dict(decoder_layers=[2, 2, 2]), 'decoder_layers=.*: give one number or a list of 2'),
    (dict(norm=dict(type='GroupNorm')), '32 groups do not divide 8 channels'),
])
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(wavelet=dict(type='Harr')), "no wavelet is called 'Harr'; did you mean 'Haar'"),
    (dict(norm=dict(type='LayerNorm')), "no norm layer is called 'LayerNorm'; did you mean 'LayerNorm2d'"),
    (dict(mid_blocks=[dict(type='Attention')]), "no mid block is called 'Attention'; did you mean 'SpatialAttention'"),
    (dict(type='WFVAE2'), "no autoencoder is called 'WFVAE2'; did you mean 'WFVAE2Image'"),
])
def test_unknown_parts_name_the_nearest(settings, message):
    with pytest.raises(KeyError, match=message):
        build(**settings)


def test_unknown_settings_list_the_known():
    with pytest.raises(TypeError, match=r"WFVAE2Image: .*'width'.*its settings are \['latent_channels', 'widths'"):
        build(width=8)
    with pytest.raises(TypeError, match=r"SpatialAttention: .*'heads'.*its settings are \[\]"):
        build(mid_blocks=[dict(type='SpatialAttention', heads=2)])


@pytest.mark.parametrize(('shape', 'message'), [
    ((1, 3, 20, 24), '24x20 px: use multiples of 8, such as 24x16'),
    ((1, 3, 16, 30), '30x16 px: use multiples of 8, such as 32x16'),
    ((1, 3, 4, 4), 'such as 8x8'),
    ((1, 3, 0, 8), '8x0 px: use multiples of 8, such as 8x8'),
    ((1, 1, 16, 16), r'images of shape \(1, 1, 16, 16\): \(B, 3, H, W\)'),
    ((3, 16, 16), r'images of shape \(3, 16, 16\)'),
])
def test_images_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        build().encode(torch.zeros(shape))


@pytest.mark.parametrize('shape', [(1, 4, 2, 2), (3, 2, 2)])
def test_latents_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r'\(B, 3, H, W\) is needed'):
        build().decode(torch.zeros(shape))
