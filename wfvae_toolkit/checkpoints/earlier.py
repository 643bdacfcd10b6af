"""Files of the earlier implementation (WFVAE2ImageModel, WFIVAE2Model and their PatchGANs), and their key names."""

import re

import torch

from .earlier_settings import CLASSES, from_earlier_settings, to_earlier_settings
from .folders import CONFIG_NAME, read_config
from .trained import CheckpointError, ModelFile, TrainedModel

# Wavelet filters stood in the state dict as buffers; ours are code.
_WAVELET_BUFFER = re.compile(r'(^|\.)(inverse_)?wavelet_transform(_in|_out)?\.(aa|ad|da|dd)$')

_AUTOENCODER_RULES = [(re.compile(pattern), replacement) for pattern, replacement in (
    # LayerNorm stood one module deeper than GroupNorm.
    (r'\.(norm|norm1|norm2|norm_out)\.norm\.(weight|bias)$', r'.\1.\2'),
    (r'\.nin_shortcut\.', '.shortcut.'),
    (r'\.(down_blocks|up_blocks)\.(\d+)\.', r'.stages.\2.'),
    (r'\.res_block\.(\d+)\.', r'.blocks.\1.'),
    (r'\.out_res_block\.', '.out_block.'),
    (r'\.down\.conv\.', '.downsample.conv.'),
    (r'\.up\.conv\.', '.upsample.conv.'),
    (r'\.conv_down\.', '.downsample.conv.'),
    (r'\.conv_up\.', '.upsample.conv.'),
    (r'\.eca\.conv\.', '.attention.conv.'),
    (r'\.in_flow_conv\.', '.flow_in.'),
    (r'\.branch_conv\.', '.branch.'),
    (r'\.out_flow_conv\.0\.', '.flow_block.'),
    (r'\.out_flow_conv\.1\.', '.flow_out.'),
    (r'\.(mid\.\d+)\.q\.', r'.\1.query.'),
    (r'\.(mid\.\d+)\.k\.', r'.\1.key.'),
    (r'\.(mid\.\d+)\.v\.', r'.\1.value.'),
    (r'\.(mid\.\d+)\.proj_out\.', r'.\1.out.'),
)]

# The way back, after the rules that depend on norm and sampling.
_EARLIER_RULES = [(re.compile(pattern), replacement) for pattern, replacement in (
    (r'\.shortcut\.', '.nin_shortcut.'),
    (r'^encoder\.stages\.', 'encoder.down_blocks.'),
    (r'^decoder\.stages\.', 'decoder.up_blocks.'),
    (r'\.blocks\.(\d+)\.', r'.res_block.\1.'),
    (r'\.out_block\.', '.out_res_block.'),
    (r'\.attention\.conv\.', '.eca.conv.'),
    (r'\.flow_in\.', '.in_flow_conv.'),
    (r'\.branch\.', '.branch_conv.'),
    (r'\.flow_block\.', '.out_flow_conv.0.'),
    (r'\.flow_out\.', '.out_flow_conv.1.'),
    (r'\.(mid\.\d+)\.query\.', r'.\1.q.'),
    (r'\.(mid\.\d+)\.key\.', r'.\1.k.'),
    (r'\.(mid\.\d+)\.value\.', r'.\1.v.'),
    (r'\.(mid\.\d+)\.out\.', r'.\1.proj_out.'),
)]
_LAYER_NORM = [(re.compile(r'\.(norm|norm1|norm2|norm_out)\.(weight|bias)$'), r'.\1.norm.\2')]
_SAMPLING = {word: [(re.compile(rf'\.{ours}\.conv\.'), f'.{earlier}.') for ours, earlier in pairs]
             for word, pairs in {'classic': (('downsample', 'down.conv'), ('upsample', 'up.conv')),
                                 'dcae': (('downsample', 'conv_down'), ('upsample', 'conv_up'))}.items()}
_HAAR = {'aa': (1, 1, 1, 1), 'ad': (1, 1, -1, -1), 'da': (1, -1, 1, -1), 'dd': (1, -1, -1, 1)}

_SPECTRAL_NORM = ('weight_orig', 'weight_u', 'weight_v', 'bias')


def convert_earlier_state(state_dict, kind):
    """Earlier state dict -> ours: same tensors under our key names, wavelet buffers dropped.

    Args:
        state_dict (dict): keys as the earlier implementation wrote them, without wrapper prefixes
            such as ``module.``.
        kind (str): ``'autoencoder'`` or ``'discriminator'``.

    Raises:
        ValueError: another ``kind``, or a key that no rule covers.
    """
    if kind == 'autoencoder':
        return {_autoencoder_key(key): value for key, value in state_dict.items() if not _WAVELET_BUFFER.search(key)}
    if kind == 'discriminator':
        return _discriminator_state(state_dict)
    raise ValueError(f"kind={kind!r}: 'autoencoder' or 'discriminator'")


def to_earlier(config, state, statistics):
    """Our model in the earlier form: (settings of config.json, state dict with the wavelet buffers).

    Args:
        config (dict): AUTOENCODERS config.
        state (dict[str, Tensor]): its weights; the same tensors go out under the earlier names.
        statistics (LatentStatistics): None: raw latents.

    Raises:
        CheckpointError: settings that the earlier form cannot express; the message names them.
    """
    settings = to_earlier_settings(config, statistics)
    rules = [*(_LAYER_NORM if settings['norm_type'] == 'layernorm' else ()),
             *_SAMPLING[settings.get('block_type', 'classic')], *_EARLIER_RULES]
    renamed = {_apply(rules, key): value for key, value in state.items()}
    dtype = next(iter(state.values())).dtype
    places = ['encoder.wavelet_transform_in', 'decoder.inverse_wavelet_transform_out']
    if settings.get('use_energy_flow', True):
        for i in range(len(settings['base_channels']) - 1):
            places += [f'encoder.down_blocks.{i}.wavelet_transform', f'decoder.up_blocks.{i}.inverse_wavelet_transform']
    buffers = {f'{place}.{name}': torch.tensor(signs, dtype=dtype).mul(0.5).reshape(1, 1, 2, 2)
               for place in places for name, signs in _HAAR.items()}
    return settings, {**renamed, **buffers}


def earlier_folder_model(folder, settings, state):
    """ModelFile of an earlier exported folder: its one set of weights.

    Args:
        folder (Path): what was read.
        settings (dict): its config.json.
        state (dict[str, Tensor]): its weights.
    """
    config, statistics, name = from_earlier_settings(settings, folder / CONFIG_NAME)
    return ModelFile({'ema': TrainedModel(config, _renamed(state, folder), statistics, folder, 'earlier folder', 'ema',
                                          {'class': name})})


def earlier_checkpoint_models(content, path):
    """ModelFile of the content of an earlier ``.ckpt``; its settings are read from config.json beside it."""
    config_path = path.with_name(CONFIG_NAME)
    if not config_path.is_file():
        raise CheckpointError(f'{path}: a checkpoint of the earlier code, without its settings; put its config.json '
                              'beside it')
    settings = read_config(config_path)
    if (settings.get('_class_name') or CLASSES[0]) not in CLASSES:
        raise CheckpointError(f'{config_path}: of a {settings["_class_name"]}; {" or ".join(CLASSES)} is read beside '
                              'a .ckpt')
    config, statistics, name = from_earlier_settings(settings, config_path)
    meta = {'class': name, 'iteration': content.get('current_step')}
    if not settings.get('_class_name'):
        meta['class_from'] = 'settings'
    states = {'raw': _renamed(content['state_dict']['gen_model'], path)}
    averaged = content.get('ema_state_dict')
    if averaged:
        averaged = _renamed(averaged, path)
        if not any(key.startswith('encoder.') for key in averaged):
            # A frozen encoder was never averaged: gen_model holds the only one there is.
            meta['encoder_from'] = 'gen_model'
            averaged |= {key: value for key, value in states['raw'].items() if key.startswith('encoder.')}
        states = {'ema': averaged, **states}
    return ModelFile({weights: TrainedModel(config, state, statistics, path, 'earlier checkpoint', weights, meta)
                      for weights, state in states.items()})


def _renamed(state, path):
    """Earlier state dict, with or without the prefix ``module.`` -> ours. CheckpointError if it is none."""
    if not isinstance(state, dict) or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise CheckpointError(f'{path}: its weights are not a dict of tensors')
    try:
        return convert_earlier_state({key.removeprefix('module.'): value for key, value in state.items()},
                                     'autoencoder')
    except ValueError as error:
        raise CheckpointError(f'{path}: {error}') from None


def _apply(rules, key):
    for pattern, replacement in rules:
        key = pattern.sub(replacement, key)
    return key


def _autoencoder_key(key):
    if not key.startswith(('encoder.', 'decoder.')):
        raise ValueError(f'{key!r} is not a key of an earlier autoencoder; its keys start with encoder. or decoder.')
    return _apply(_AUTOENCODER_RULES, key)


def _discriminator_state(state_dict):
    """``main.N.weight_orig`` -> ``convs.i.weight_orig``; the last conv is ``score``.

    Several scales: ``scale{i}_layer{j}.0.weight_orig`` -> ``scales.k.convs.j.weight_orig``, where the earlier i counts
    down to the full resolution's scales - 1 and our k up from its 0.
    """
    matches = {key: re.fullmatch(r'(?:discriminator\.)?(?:main\.(\d+)|scale(\d+)_layer(\d+)\.0)\.(\w+)', key)
               for key in state_dict}
    kinds = {match[1] is None for match in matches.values() if match}
    strange = [key for key, match in matches.items() if not match or match[4] not in _SPECTRAL_NORM or len(kinds) > 1]
    if strange:
        raise ValueError(f'these are not keys of an earlier spectral-norm PatchGAN: {", ".join(sorted(strange)[:5])}')
    places = {key: (int(match[2] or 0), int(match[1] or match[3])) for key, match in matches.items()}
    scales = sorted({scale for scale, _ in places.values()}, reverse=True)
    names = {}
    for number, scale in enumerate(scales):
        prefix = f'scales.{number}.' if kinds == {True} else ''
        *convs, score = sorted({layer for of, layer in places.values() if of == scale})
        names |= {(scale, layer): f'{prefix}convs.{i}' for i, layer in enumerate(convs)}
        names[scale, score] = f'{prefix}score'
    return {f'{names[places[key]]}.{match[4]}': state_dict[key] for key, match in matches.items()}
