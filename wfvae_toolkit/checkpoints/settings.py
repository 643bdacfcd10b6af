"""Configs of autoencoders with every default written out, so that two of them compare."""

from wfvae_toolkit.models.autoencoders.checks import layers_per_stage
from wfvae_toolkit.registry import unregistered_types
from wfvae_toolkit.schema import defaults_of

# They change how a network trains, not what it computes.
_TRAINING_ONLY = ('checkpoint_activations',)


def complete(config):
    """AUTOENCODERS config -> the same with all defaults, as plain data; equal ones build the same network.

    Of an energy flow that is off the widths are None. Settings that concern training only are left out.
    """
    config = with_defaults(config)
    if config.get('posterior', ...) is None:
        config['posterior'] = with_defaults(dict(type='GaussianPosterior'))
    if config['type'] != 'WFVAE2Image':
        return config
    for name in _TRAINING_ONLY:
        config.pop(name)
    replacements = dict(
        wavelet=dict(type='Haar'), norm=dict(type='LayerNorm2d'), downsample=dict(type='StridedDownsample'),
        upsample=dict(type='NearestUpsample'), decoder_widths=config['widths'],
        decoder_flow_width=config['flow_width'])
    config |= {name: with_defaults(value) for name, value in replacements.items() if config[name] is None}
    stages = len(config['widths']) - 1
    config['encoder_layers'] = layers_per_stage('encoder_layers', config['encoder_layers'], stages, 1)
    config['decoder_layers'] = layers_per_stage('decoder_layers', config['decoder_layers'], stages, 2)
    if not config['energy_flow']:
        config['flow_width'] = config['decoder_flow_width'] = None
    return config


def with_defaults(node):
    """A config, or a part of one, with the constructor defaults of every registered part that it names."""
    if isinstance(node, (list, tuple)):
        return [with_defaults(value) for value in node]
    if not isinstance(node, dict):
        return node
    named = 'type' in node and not unregistered_types(dict(type=node['type']))
    defaults = defaults_of(node['type']) if named else {}
    return {key: with_defaults(value) for key, value in {**node, **defaults, **node}.items()}


def difference(first, second):
    """Names of settings in which two completed configs differ, such as ``'norm'``."""
    names = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    if 'energy_flow' in names:
        names -= {'flow_width', 'decoder_flow_width'}  # one of the two has no flow to be of that width
    return sorted(names)
