import pytest
import torch

from wfvae_toolkit.checkpoints import CheckpointError, convert_earlier_state
from wfvae_toolkit.checkpoints.earlier import to_earlier
from wfvae_toolkit.checkpoints.earlier_settings import from_earlier_settings
from wfvae_toolkit.models.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from wfvae_toolkit.registry import AUTOENCODERS

BUFFERS = ['encoder.wavelet_transform_in.aa', 'encoder.down_blocks.1.wavelet_transform.ad',
           'decoder.up_blocks.0.inverse_wavelet_transform.da', 'decoder.inverse_wavelet_transform_out.dd']


def test_autoencoder_state_fits_strictly(reference):
    model = AUTOENCODERS.build(reference.autoencoder)
    earlier = {**reference.earlier_weights, **{key: torch.zeros(1, 1, 2, 2) for key in BUFFERS}}
    converted = convert_earlier_state(earlier, 'autoencoder')
    model.load_state_dict(converted, strict=True)
    # A renaming: no tensor is lost, copied or used twice.
    kept = {id(value) for key, value in reference.earlier_weights.items() if 'wavelet_transform' not in key}
    assert sorted(id(value) for value in converted.values()) == sorted(kept)


def test_discriminator_state_fits_strictly(reference):
    earlier = reference.earlier_discriminator
    converted = convert_earlier_state(earlier, 'discriminator')
    discriminator = PatchDiscriminator(num_layers=1)
    discriminator.load_state_dict(converted, strict=True)
    assert converted['convs.1.weight_u'] is earlier['discriminator.main.2.weight_u']
    assert converted['score.bias'] is earlier['discriminator.main.5.bias']
    without_prefix = {key.removeprefix('discriminator.'): value for key, value in earlier.items()}
    assert convert_earlier_state(without_prefix, 'discriminator').keys() == converted.keys()


def test_deeper_discriminators_keep_the_order_of_numbers():
    # main.11 comes after main.8, and the last one gives the scores.
    places = {0: 3, 2: 64, 5: 128, 8: 256, 11: 512, 14: 512}
    earlier = {f'main.{place}.{name}': (place, name) for place in reversed(places)
               for name in ('bias', 'weight_orig', 'weight_u', 'weight_v')}
    converted = convert_earlier_state(earlier, 'discriminator')
    assert converted.keys() == PatchDiscriminator(num_layers=4, width=2).state_dict().keys()
    assert converted['convs.4.weight_v'] == (11, 'weight_v')
    assert converted['score.weight_orig'] == (14, 'weight_orig')


@pytest.mark.parametrize('key', ['module.encoder.conv_in.weight', 'quant_conv.weight', 'logvar'])
def test_keys_of_something_else_are_named(key):
    with pytest.raises(ValueError, match=f"'{key}' is not a key of an earlier autoencoder"):
        convert_earlier_state({'encoder.conv_in.weight': 0, key: 0}, 'autoencoder')


def test_unknown_keys_of_an_encoder_do_not_load(reference):
    converted = convert_earlier_state({**reference.earlier_weights, 'encoder.extra.weight': torch.zeros(1)},
                                      'autoencoder')
    with pytest.raises(RuntimeError, match='encoder.extra.weight'):
        AUTOENCODERS.build(reference.autoencoder).load_state_dict(converted)


@pytest.mark.parametrize('key', ['perceptual_loss.net.slice1.0.weight', 'logvar', 'discriminator.main.3.running_mean',
                                 'scale0_layer1.1.weight'])
def test_other_discriminators_are_named(key):
    with pytest.raises(ValueError, match=f'not keys of an earlier spectral-norm PatchGAN: {key}'):
        convert_earlier_state({'discriminator.main.0.bias': 0, key: 0}, 'discriminator')


def test_several_scales_count_down_to_the_full_resolution():
    ours = MultiScaleDiscriminator(scales=3, num_layers=2, width=4).state_dict()
    earlier = {}
    for key, value in ours.items():
        _, number, *layer, name = key.split('.')
        place = 3 if layer == ['score'] else int(layer[1])
        earlier[f'discriminator.scale{2 - int(number)}_layer{place}.0.{name}'] = value
    converted = convert_earlier_state(earlier, 'discriminator')
    assert converted.keys() == ours.keys()
    assert all(converted[key] is ours[key] for key in ours)
    with pytest.raises(ValueError, match='not keys of an earlier spectral-norm PatchGAN: discriminator'):
        convert_earlier_state({**earlier, 'discriminator.main.0.bias': 0}, 'discriminator')


def test_earlier_models_survive_the_round_trip(earlier_model):
    settings = {'_class_name': earlier_model.class_name, **earlier_model.settings}
    config, statistics, _ = from_earlier_settings(settings, 'config.json')
    state = convert_earlier_state(earlier_model.weights, 'autoencoder')
    written, back = to_earlier(config, state, statistics)
    # Complete: what the file left out has its default.
    assert {key: written[key] for key in settings} == settings
    assert from_earlier_settings(written, 'config.json')[:2] == (config, statistics)
    assert back.keys() == earlier_model.weights.keys()
    for key, value in earlier_model.weights.items():
        assert value.dtype == back[key].dtype
        assert torch.equal(value, back[key]), key


def test_other_kinds_of_models_have_no_earlier_form():
    with pytest.raises(CheckpointError, match='DiffusersAutoencoderKL cannot be written in the earlier form'):
        to_earlier(dict(type='DiffusersAutoencoderKL'), {}, None)


def test_kind_is_checked():
    with pytest.raises(ValueError, match="kind='gan': 'autoencoder' or 'discriminator'"):
        convert_earlier_state({}, 'gan')
