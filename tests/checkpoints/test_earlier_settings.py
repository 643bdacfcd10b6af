import pytest
import torch

from wfvae_toolkit.checkpoints import CheckpointError, convert_earlier_state
from wfvae_toolkit.checkpoints.earlier import to_earlier
from wfvae_toolkit.checkpoints.earlier_settings import from_earlier_settings, to_earlier_settings
from wfvae_toolkit.checkpoints.settings import complete
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.registry import AUTOENCODERS

IMAGE = dict(_class_name='WFVAE2ImageModel', latent_dim=3, base_channels=[8, 12], encoder_energy_flow_size=4,
             decoder_energy_flow_size=6)
SUCCESSOR = dict(_class_name='WFIVAE2Model', latent_dim=2, base_channels=[8, 16], encoder_energy_flow_size=4,
                 decoder_energy_flow_size=6, norm_type='layernorm')
OURS = dict(type='WFVAE2Image', latent_channels=2, widths=(8, 12), flow_width=4)


def convert(settings):
    return from_earlier_settings(settings, 'config.json')


def build(config):
    torch.manual_seed(0)
    return AUTOENCODERS.build(config)


def test_defaults_of_both_classes():
    config, statistics, _ = convert(dict(_class_name='WFVAE2ImageModel'))
    eight = complete(dict(type='WFVAE2Image', latent_channels=4, widths=(128, 256, 512), decoder_layers=3))
    assert complete(config) == eight
    assert statistics == LatentStatistics((0.0,) * 4, (1 / 0.18215,) * 4)
    config, statistics, _ = convert(dict(_class_name='WFIVAE2Model'))
    assert complete(config) == {
        **eight, 'latent_channels': 16, 'norm': dict(type='GroupNorm', groups=32, eps=1e-6), 'output_activation': True,
        'downsample': dict(type='ResidualDownsample'), 'upsample': dict(type='ResidualUpsample')}
    assert len(statistics.mean) == 16


# Every row of the table: earlier settings -> what must be in our config.
ROWS = [
    (IMAGE, dict(latent_dim=5), dict(latent_channels=5)),
    (IMAGE, dict(base_channels=[8, 8, 12]), dict(widths=[8, 8, 12], decoder_widths=[8, 8, 12])),
    (IMAGE, dict(decoder_base_channels=[12, 16]), dict(widths=[8, 12], decoder_widths=[12, 16])),
    (IMAGE, dict(layer_res_type=['ResnetBlock2D']), dict(encoder_layers=[2])),
    (IMAGE, dict(encoder_num_resblocks=1, decoder_num_resblocks=4), dict(encoder_layers=[1], decoder_layers=[4])),
    (IMAGE, dict(encoder_energy_flow_size=5, decoder_energy_flow_size=7), dict(flow_width=5, decoder_flow_width=7)),
    (IMAGE, dict(dropout=0.1), dict(dropout=0.1)),
    (IMAGE, dict(norm_type='groupnorm', base_channels=[32, 32], encoder_energy_flow_size=32,
                 decoder_energy_flow_size=32), dict(norm=dict(type='GroupNorm', groups=32, eps=1e-6))),
    (IMAGE, dict(mid_layers_type=['AttnBlock2D']), dict(mid_blocks=[dict(type='SpatialAttention')])),
    (IMAGE, dict(mid_layers_type=[]), dict(mid_blocks=[])),
    (SUCCESSOR, dict(mid_layers_type=['Attention2DFix']), dict(mid_blocks=[dict(type='SpatialAttention')])),
    (SUCCESSOR, dict(base_channels=[8, 16, 16], encoder_num_resblocks=[1, 2], decoder_num_resblocks=[4, 2]),
     dict(encoder_layers=[1, 2], decoder_layers=[4, 2])),
    (SUCCESSOR, dict(use_io_shortcut=True), dict(latent_shortcuts=True)),
    (SUCCESSOR, dict(use_eca=True), dict(channel_attention=dict(type='ECA'))),
    (SUCCESSOR, dict(block_type='classic'), dict(
        downsample=dict(type='StridedDownsample'), upsample=dict(type='NearestUpsample'), output_activation=True)),
    (SUCCESSOR, dict(block_type='classic', use_io_shortcut=True), dict(latent_shortcuts=False)),
    (SUCCESSOR, dict(use_energy_flow=False), dict(energy_flow=False, flow_width=None)),
    (SUCCESSOR, dict(norm_type='layernorm'), dict(norm=dict(type='LayerNorm2d', eps=1e-6))),
]


@pytest.mark.parametrize(('base', 'changes', 'expected'), ROWS, ids=lambda row: ','.join(row))
def test_every_setting_and_back(base, changes, expected):
    config, statistics, name = convert({**base, **changes})
    assert name == base['_class_name']
    full = complete(config)
    assert {key: full[key] for key in expected} == expected
    # What was built goes to the earlier form and back unchanged, tensors and settings.
    state = build(config).state_dict()
    settings, earlier = to_earlier(config, state, statistics)
    again, statistics_again, _ = convert(settings)
    assert (complete(again), statistics_again) == (full, statistics)
    back = convert_earlier_state(earlier, 'autoencoder')
    assert back.keys() == state.keys()
    assert all(back[key] is state[key] for key in state)


def test_channel_attention_stands_in_every_residual_block():
    keys = build(convert({**SUCCESSOR, 'use_eca': True})[0]).state_dict()
    blocks, with_attention = (
        {key.removesuffix(name) for key in keys if key.endswith(name)}
        for name in ('conv1.weight', 'attention.conv.weight'))
    assert blocks == with_attention
    assert 'decoder.stages.0.flow_block.' in blocks
    assert 'encoder.mid.0.' in blocks


@pytest.mark.parametrize(('scale', 'shift', 'mean', 'std'), [
    (0.5, 1, (1, 1, 1), (2, 2, 2)), ([0.5, 0.25, 1], [1, 2, 3], (1, 2, 3), (2, 4, 1)), (2, [1, 2, 3], (1, 2, 3),
                                                                                       (0.5,) * 3)])
def test_scale_and_shift(scale, shift, mean, std):
    assert convert({**IMAGE, 'scale': scale, 'shift': shift})[1] == LatentStatistics(mean, std)


@pytest.mark.parametrize('scale', [0.18215, 0.13025, 0.3611, 1.0, 3.7, 0.9227914214134216, 1 / 3])
def test_scales_return_to_the_last_digit(scale):
    settings = {**IMAGE, 'scale': [scale] * 3, 'shift': [0.1, -0.2, 0.3]}
    config, statistics, _ = convert(settings)
    written = to_earlier_settings(config, statistics)
    assert (written['scale'], written['shift']) == (settings['scale'], settings['shift'])


def test_never_measured_latents_stay_raw():
    written = to_earlier_settings(OURS, None)
    assert (written['scale'], written['shift']) == ([1.0, 1.0], [0.0, 0.0])


# settings of files without a class, as beside a training checkpoint

@pytest.mark.parametrize(('settings', 'name'), [
    (dict(layer_res_type=['ResnetBlock2D', 'ResnetBlock2D']), 'WFVAE2ImageModel'),
    *((row, 'WFIVAE2Model') for row in (dict(use_io_shortcut=False), dict(use_eca=False), dict(block_type='dcae'),
                                        dict(use_energy_flow=True)))])
def test_the_class_follows_from_settings_of_its_own(settings, name):
    assert convert(settings)[2] == name


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(latent_dim=4), 'no setting that only one of them knows.*write "_class_name"'),
    (dict(layer_res_type=['ResnetBlock2D'] * 2, use_eca=True),
     'layer_res_type belongs to WFVAE2ImageModel; use_eca belongs to WFIVAE2Model'),
    ({**IMAGE, 'use_eca': False}, 'WFVAE2ImageModel has no setting use_eca'),
    ({**SUCCESSOR, 'layer_res_type': ['ResnetBlock2D']}, 'WFIVAE2Model has no setting layer_res_type'),
    ({**IMAGE, 'typo': 1}, 'WFVAE2ImageModel has no setting typo; it has base_channels'),
    ({**IMAGE, 'layer_res_type': ['ResnetBlock2D'] * 2}, 'once for each of the 1 stages'),
    ({**IMAGE, 'layer_res_type': ['Other']}, "only 'ResnetBlock2D' is supported"),
    ({**IMAGE, 'encoder_num_resblocks': [2]}, 'it takes one number for all stages'),
    ({**IMAGE, 'norm_type': 'batchnorm'}, "norm_type='batchnorm'; use one of layernorm, groupnorm"),
    ({**SUCCESSOR, 'block_type': 'new'}, "block_type='new'; use one of classic, dcae"),
    ({**IMAGE, 'mid_layers_type': ['Mamba']}, "mid_layers_type=.*use some of ResnetBlock2D, AttnBlock2D"),
    ({**IMAGE, 'norm_type': ['layernorm']}, 'use one of layernorm, groupnorm'),
    ({**IMAGE, 'mid_layers_type': [['AttnBlock2D']]}, 'use some of ResnetBlock2D, AttnBlock2D'),
    ({**IMAGE, 'base_channels': 8}, 'base_channels=8; a list is needed'),
    ({**IMAGE, 'latent_dim': '4'}, "latent_dim='4'; an integer is needed"),
    ({**IMAGE, 'scale': [1.0]}, r'scale=\[1.0\]; use one finite number or a list of 3, each above 0'),
    ({**IMAGE, 'scale': 0}, 'scale=0; use one finite number or a list of 3, each above 0'),
    ({**IMAGE, 'shift': 'x'}, "shift='x'; use one finite number or a list of 3"),
])
def test_unknown_and_contradictory_settings_are_named(settings, message):
    with pytest.raises(CheckpointError, match=f'config.json.*{message}'):
        convert(settings)


# the way back: what the earlier form has no words for

@pytest.mark.parametrize(('changes', 'message'), [
    (dict(norm=dict(type='RMSNorm2d')), "cannot express norm={'type': 'RMSNorm2d'"),
    (dict(norm=dict(type='LayerNorm2d', eps=1e-5)), "cannot express norm={'type': 'LayerNorm2d', 'eps': 1e-05"),
    (dict(norm=dict(type='GroupNorm', groups=4)), 'cannot express norm='),
    (dict(wavelet=dict(type='DiscreteWavelet', name='db2')), 'cannot express wavelet='),
    (dict(energy_flow=False), 'WFVAE2ImageModel cannot express energy_flow=False'),
    (dict(energy_flow=False, output_activation=True), None),
    (dict(latent_shortcuts=True, output_activation=True), 'WFIVAE2Model cannot express latent_shortcuts=True'),
    (dict(channel_attention=dict(type='ECA')), 'cannot express channel_attention='),
    (dict(channel_attention=dict(type='ECA'), output_activation=True), 'cannot express mid_blocks='),
    (dict(downsample=dict(type='ResidualDownsample'), output_activation=True), 'cannot express upsample='),
    (dict(widths=(8, 8, 8), encoder_layers=(1, 2)), 'it takes one number for all stages'),
    (dict(widths=(8, 8, 8), encoder_layers=(1, 2), output_activation=True), None),
    (dict(mid_blocks=[dict(type='ResidualBlock', dropout=0.5)]), 'cannot express mid_blocks='),
    (dict(mid_blocks=[dict(type='SpatialAttention')] * 2), None),
    (dict(checkpoint_activations=True), None),
])
def test_what_the_earlier_form_cannot_say(changes, message):
    config = {**OURS, **changes}
    if message is None:
        assert complete(convert(to_earlier_settings(config, None))[0]) == complete(config)
        return
    with pytest.raises(CheckpointError, match=message):
        to_earlier_settings(config, None)
