"""Settings of the earlier implementation's two classes <-> our configs.

``WFVAE2ImageModel`` is the 8x system, ``WFIVAE2Model`` its 32x successor; only the latter activates between the
decoder's last norm and last conv (``output_activation``).
"""

import math

from wfvae_toolkit.models.latent_statistics import LatentStatistics

from .settings import complete, difference, with_defaults
from .trained import CheckpointError

IMAGE_CLASS, SUCCESSOR_CLASS = CLASSES = 'WFVAE2ImageModel', 'WFIVAE2Model'

_COMMON = dict(
    base_channels=[128, 256, 512], decoder_base_channels=None, encoder_num_resblocks=2, decoder_num_resblocks=3,
    encoder_energy_flow_size=128, decoder_energy_flow_size=128, dropout=0.0,
    mid_layers_type=['ResnetBlock2D', 'AttnBlock2D', 'ResnetBlock2D'], scale=0.18215, shift=0.0)
_DEFAULTS = {
    # layer_res_type: None stands for one ResnetBlock2D a stage, the only kind there is.
    IMAGE_CLASS: dict(_COMMON, latent_dim=4, norm_type='layernorm', layer_res_type=None),
    SUCCESSOR_CLASS: dict(_COMMON, latent_dim=16, norm_type='groupnorm', use_io_shortcut=False, use_eca=False,
                          block_type='dcae', use_energy_flow=True)}
_NORMS = {'layernorm': 'LayerNorm2d', 'groupnorm': 'GroupNorm'}
_MIDS = {'ResnetBlock2D': 'ResidualBlock', 'AttnBlock2D': 'SpatialAttention', 'Attention2DFix': 'SpatialAttention'}
_SAMPLING = {'classic': ('StridedDownsample', 'NearestUpsample'), 'dcae': ('ResidualDownsample', 'ResidualUpsample')}


def from_earlier_settings(settings, path):
    """config.json of an earlier model -> (our config, LatentStatistics, name of its class).

    Without ``_class_name``, as beside a training checkpoint, the class follows from settings that only one has.

    Raises:
        CheckpointError: a setting that the class does not have, a value that it does not know, or a contradiction.
    """
    name = settings.get('_class_name') or _infer_class(settings, path)
    given = {key: value for key, value in settings.items() if not key.startswith('_')}
    unknown = sorted(given.keys() - _DEFAULTS[name].keys())
    if unknown:
        raise CheckpointError(f'{path}: {name} has no setting {", ".join(unknown)}; '
                              f'it has {", ".join(sorted(_DEFAULTS[name]))}')
    full = {**_DEFAULTS[name], **given}
    channels, widths = full['latent_dim'], full['base_channels']
    _check_values(full, name, path)
    successor = name == SUCCESSOR_CLASS
    attention = dict(type='ECA') if full.get('use_eca') else None
    sampling = full.get('block_type', 'classic')
    downsample, upsample = _SAMPLING[sampling]
    mids = [dict(type=_MIDS[kind]) for kind in full['mid_layers_type']]
    for block in mids:
        if block['type'] == 'ResidualBlock':
            block.update(dropout=full['dropout'], channel_attention=attention)
    config = dict(
        type='WFVAE2Image', latent_channels=channels, widths=widths,
        decoder_widths=full['decoder_base_channels'], encoder_layers=full['encoder_num_resblocks'],
        decoder_layers=full['decoder_num_resblocks'], energy_flow=full.get('use_energy_flow', True),
        flow_width=full['encoder_energy_flow_size'], decoder_flow_width=full['decoder_energy_flow_size'],
        wavelet=dict(type='Haar'), norm=dict(type=_NORMS[full['norm_type']]), mid_blocks=mids,
        dropout=full['dropout'], channel_attention=attention, downsample=dict(type=downsample),
        upsample=dict(type=upsample), output_activation=successor,
        # The earlier code dropped the shortcuts with classic sampling, whatever use_io_shortcut said.
        latent_shortcuts=bool(full.get('use_io_shortcut')) and sampling == 'dcae')
    scale, shift = (_per_channel(full, key, channels, path) for key in ('scale', 'shift'))
    return config, LatentStatistics.from_scale_shift(scale, shift), name


def to_earlier_settings(config, statistics):
    """Our config -> config.json of an earlier model, every setting written out.

    Args:
        config (dict): AUTOENCODERS config.
        statistics (LatentStatistics): None: raw latents, scale 1 and shift 0.

    Raises:
        CheckpointError: settings that the earlier form has no words for; the message names them.
    """
    if config['type'] != 'WFVAE2Image':
        raise CheckpointError(f'{config["type"]} cannot be written in the earlier form; only WFVAE2Image can')
    full = with_defaults(config)
    name = SUCCESSOR_CLASS if full['output_activation'] else IMAGE_CLASS
    statistics = statistics or LatentStatistics.identity(full['latent_channels'])
    attention = 'Attention2DFix' if name == SUCCESSOR_CLASS else 'AttnBlock2D'
    norm, downsample = ((full[key] or dict(type=default))['type'] for key, default in (
        ('norm', 'LayerNorm2d'), ('downsample', 'StridedDownsample')))
    settings = dict(
        _class_name=name, latent_dim=full['latent_channels'], base_channels=list(full['widths']),
        decoder_base_channels=full['decoder_widths'] and list(full['decoder_widths']),
        encoder_num_resblocks=_layers(full['encoder_layers'], name),
        decoder_num_resblocks=_layers(full['decoder_layers'], name),
        encoder_energy_flow_size=full['flow_width'],
        decoder_energy_flow_size=full['decoder_flow_width'] or full['flow_width'],
        dropout=full['dropout'], norm_type=_word(_NORMS, norm),
        mid_layers_type=['ResnetBlock2D' if block['type'] == 'ResidualBlock' else attention
                         for block in full['mid_blocks']],
        scale=[_inverse(value) for value in statistics.std], shift=list(statistics.mean))
    if name == IMAGE_CLASS:
        settings['layer_res_type'] = ['ResnetBlock2D'] * (len(full['widths']) - 1)
    else:
        downsamplers = {word: pair[0] for word, pair in _SAMPLING.items()}
        settings |= dict(use_io_shortcut=full['latent_shortcuts'], use_eca=full['channel_attention'] is not None,
                         block_type=_word(downsamplers, downsample), use_energy_flow=full['energy_flow'])
    # What the words mean must be what the config says: otherwise they lack one.
    meant, _, _ = from_earlier_settings(settings, f'{name} of this model')
    wanted = complete(config)
    lost = difference(complete(meant), wanted)
    if lost:
        raise CheckpointError(f'{name} cannot express {", ".join(f"{key}={wanted[key]!r}" for key in lost)}')
    return settings


def _infer_class(settings, path):
    own = {name: sorted(settings.keys() & (_DEFAULTS[name].keys() - _DEFAULTS[other].keys()))
           for name, other in (CLASSES, CLASSES[::-1])}
    found = [name for name, keys in own.items() if keys]
    if len(found) != 1:
        reason = ('; '.join(f'{", ".join(keys)} belongs to {name}' for name, keys in own.items()) if found
                  else 'it has no setting that only one of them knows')
        raise CheckpointError(f'{path}: its class is not clear, {" or ".join(CLASSES)} ({reason}); write '
                              '"_class_name" into it')
    return found[0]


def _check_values(full, name, path):
    # Words are looked up in lists: what a file holds instead of one may have no hash.
    def refuse(key, accepted):
        raise CheckpointError(f'{path}: {name} with {key}={full[key]!r}; {accepted}')

    if not isinstance(full['latent_dim'], int):
        refuse('latent_dim', 'an integer is needed')
    for key in ('base_channels', 'decoder_base_channels', 'mid_layers_type'):
        if not isinstance(full[key], list) and not (full[key] is None and key == 'decoder_base_channels'):
            refuse(key, 'a list is needed')
    stages = len(full['base_channels']) - 1
    if full.get('layer_res_type') not in (None, ['ResnetBlock2D'] * stages):
        refuse('layer_res_type', f"only 'ResnetBlock2D' is supported, once for each of the {stages} stages")
    for key in ('encoder_num_resblocks', 'decoder_num_resblocks'):
        if name == IMAGE_CLASS and not isinstance(full[key], int):
            refuse(key, 'it takes one number for all stages')
    for key, words in (('norm_type', _NORMS), ('block_type', _SAMPLING)):
        if key in full and full[key] not in list(words):
            refuse(key, f'use one of {", ".join(words)}')
    if any(kind not in list(_MIDS) for kind in full['mid_layers_type']):
        refuse('mid_layers_type', f'use some of {", ".join(_MIDS)}')


def _per_channel(full, key, channels, path):
    """A number or a list of numbers -> list of ``channels`` floats."""
    values = full[key] if isinstance(full[key], list) else [full[key]] * channels
    numbers = all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    if len(values) != channels or not numbers or (key == 'scale' and min(values) <= 0):
        raise CheckpointError(f'{path}: {key}={full[key]!r}; use one finite number or a list of {channels}'
                              + (', each above 0' if key == 'scale' else ''))
    return [float(value) for value in values]


def _layers(layers, name):
    """As they are; equal ones as one number for the class that takes no list (others it refuses)."""
    if isinstance(layers, int):
        return layers
    return layers[0] if name == IMAGE_CLASS and len(set(layers)) == 1 else list(layers)


def _word(words, ours):
    """Earlier word for one of our types. For a type without one, any word: comparing with the config then fails."""
    return next((word for word, type_ in words.items() if type_ == ours), next(iter(words)))


def _inverse(std):
    """The scale whose reciprocal ``std`` is: 1 / (1 / 0.18215) is not 0.18215, but a neighbour is."""
    scale = 1 / std
    near = [scale, math.nextafter(scale, 0), math.nextafter(scale, math.inf)]
    return min((value for value in near if 1 / value == std), key=lambda value: len(repr(value)), default=scale)
