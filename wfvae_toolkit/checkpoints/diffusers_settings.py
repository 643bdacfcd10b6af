"""config.json of diffusers folders -> our configs: our own export, AutoencoderKL, AutoencoderDC and AutoencoderTiny."""

import inspect
import math
import re

from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.registry import AUTOENCODERS

from .folders import RECORD_NAME, read_config
from .native import activations_in
from .trained import CheckpointError, ModelFile, TrainedModel

EXPORTED_CLASS = 'AutoencoderWFVAE2'
DIFFUSERS_CLASSES = (EXPORTED_CLASS, 'AutoencoderKL', 'AutoencoderDC', 'AutoencoderTiny')
_LATENT_KEYS = ('scaling_factor', 'shift_factor', 'latents_mean', 'latents_std')
# What AutoencoderWFVAE2 writes for diffusers and its pipelines alone.
_FOR_PIPELINES = ('auto_map', 'block_out_channels', 'force_upcast', 'in_channels', 'out_channels', 'sample_size')

# AutoencoderKL: what DiffusersAutoencoderKL builds, and what does not change the network.
_KL_SETTINGS = {'latent_channels': 'latent_channels', 'block_out_channels': 'widths', 'layers_per_block': 'layers',
                'norm_num_groups': 'groups'}
_KL_FIXED = dict(in_channels=3, out_channels=3, act_fn='silu', mid_block_add_attention=True)
_KL_QUANT_CONVS = ('use_quant_conv', 'use_post_quant_conv')  # here both are one setting
_KL_BLOCKS = dict(down_block_types='DownEncoderBlock2D', up_block_types='UpDecoderBlock2D')
_KL_IGNORED = ('sample_size', 'force_upcast')
# AutoencoderTiny: the same. diffusers sets force_upcast to False whatever is given, copies block_out_channels from the
# decoder's, and uses magnitude and shift only where latents become bytes.
_TINY_SETTINGS = {'latent_channels': 'latent_channels', 'num_encoder_blocks': 'encoder_blocks',
                  'num_decoder_blocks': 'decoder_blocks', 'act_fn': 'act_fn', 'upsample_fn': 'upsample_fn'}
_TINY_FIXED = dict(in_channels=3, out_channels=3, upsampling_scaling_factor=2)
_TINY_WIDTHS = ('encoder_block_out_channels', 'decoder_block_out_channels')
_TINY_IGNORED = ('block_out_channels', 'force_upcast', 'latent_magnitude', 'latent_shift')
# Attention in files that diffusers wrote before 0.18.
_KL_OLD_NAMES = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}
_OLD_ATTENTION = re.compile(r'(\.mid_block\.attentions\.\d+\.)(query|key|value|proj_attn)\.')


def diffusers_folder_model(folder, settings, state):
    """ModelFile of a diffusers folder, our own export or a class of diffusers: its one set of weights.

    Args:
        folder (Path): what was read.
        settings (dict): its config.json.
        state (dict[str, Tensor]): its weights.
    """
    config, statistics = from_diffusers_settings(settings, folder / 'config.json')
    name = settings['_class_name']
    state = state if name == EXPORTED_CLASS else rename_old_attention(state)
    record = read_config(folder / RECORD_NAME) if (folder / RECORD_NAME).is_file() else {}
    return ModelFile({'ema': TrainedModel(config, state, statistics, folder, 'diffusers', 'ema',
                                          {'class': name, **activations_in(record, folder / RECORD_NAME)})})


def from_diffusers_settings(settings, path):
    """config.json -> (our config, LatentStatistics or None).

    Raises:
        CheckpointError: a class of diffusers that is not read, or settings that its counterpart here lacks.
    """
    convert = {EXPORTED_CLASS: _exported, 'AutoencoderKL': _kl, 'AutoencoderDC': _dc,
               'AutoencoderTiny': _tiny}[settings['_class_name']]
    for key in ('latents_mean', 'latents_std', 'block_out_channels'):
        if not isinstance(settings.get(key, []), (list, type(None))):
            raise CheckpointError(f'{path}: {key}={settings[key]!r}; a list is needed')
    own = {key: value for key, value in settings.items() if not key.startswith('_') and key not in _LATENT_KEYS}
    config = convert(own, path)
    if not isinstance(config['latent_channels'], int):
        raise CheckpointError(f'{path}: latent_channels={config["latent_channels"]!r}; an integer is needed')
    return config, _statistics(settings, config['latent_channels'], path)


def rename_old_attention(state):
    """Keys of a diffusers autoencoder as its present version names them."""
    return {_OLD_ATTENTION.sub(lambda match: f'{match[1]}{_KL_OLD_NAMES[match[2]]}.', key): value
            for key, value in state.items()}


def _exported(settings, path):
    settings = {key: value for key, value in settings.items() if key not in _FOR_PIPELINES}
    known = list(inspect.signature(AUTOENCODERS.get('WFVAE2Image')).parameters)
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        raise CheckpointError(f'{path}: {EXPORTED_CLASS} has no setting {", ".join(unknown)}; it has '
                              f'{", ".join(known)}')
    if 'latent_channels' not in settings:
        raise CheckpointError(f'{path}: latent_channels is missing')
    return dict(type='WFVAE2Image', **settings)


def _kl(settings, path):
    blocks = {name: [kind] * len(settings.get('block_out_channels') or ()) for name, kind in _KL_BLOCKS.items()}
    quant_convs = [settings.get(name, True) for name in _KL_QUANT_CONVS]
    known = (*_KL_SETTINGS, *_KL_IGNORED, *(_KL_QUANT_CONVS if quant_convs in ([True] * 2, [False] * 2) else ()))
    _refuse_others('DiffusersAutoencoderKL', settings, known, {**_KL_FIXED, **blocks}, path)
    missing = sorted(_KL_SETTINGS.keys() - settings.keys())
    if missing:
        raise CheckpointError(f'{path}: missing: {", ".join(missing)}')
    return dict(type='DiffusersAutoencoderKL', **{ours: settings[key] for key, ours in _KL_SETTINGS.items()},
                **({} if quant_convs[0] else {'quant_conv': False}))


def _tiny(settings, path):
    widths = {width for name in _TINY_WIDTHS for width in settings.get(name) or (64,)}
    known = (*_TINY_SETTINGS, *_TINY_IGNORED, *(_TINY_WIDTHS if len(widths) == 1 else ()))
    _refuse_others('DiffusersAutoencoderTiny', settings, known, _TINY_FIXED, path)
    own = {ours: settings[key] for key, ours in _TINY_SETTINGS.items() if key in settings}
    return {'type': 'DiffusersAutoencoderTiny', 'latent_channels': 4, 'width': widths.pop(), **own}


def _refuse_others(name, settings, known, fixed, path):
    """CheckpointError if a setting is not known, and not at the only value that our class has."""
    other = {key: value for key, value in settings.items()
             if key not in known and not (key in fixed and value == fixed[key])}
    if other:
        raise CheckpointError(f'{path}: {name} cannot express '
                              f'{", ".join(f"{key}={value!r}" for key, value in sorted(other.items()))}')


def _dc(settings, path):
    if settings.get('in_channels', 3) != 3:
        raise CheckpointError(f'{path}: AutoencoderDC with in_channels={settings["in_channels"]}; only 3 is supported')
    return {'type': 'DiffusersAutoencoderDC', 'latent_channels': 32, **settings}


def _statistics(settings, channels, path):
    """normalised = ((raw - latents_mean) / latents_std - shift_factor) * scaling_factor; None where nothing is said."""
    scale, shift, mean, std = (settings.get(key) for key in _LATENT_KEYS)
    if scale in (None, 1) and not shift and mean is None and std is None:
        return None
    mean, std = mean or [0.0] * channels, std or [1.0] * channels
    scale, shift = 1.0 if scale is None else scale, shift or 0.0
    numbers = [scale, shift, *mean, *std]
    finite = all(isinstance(value, (int, float)) and math.isfinite(value) for value in numbers)
    if not finite or len(mean) != channels or len(std) != channels or scale <= 0 or min(std) <= 0:
        raise CheckpointError(f'{path}: {", ".join(_LATENT_KEYS)} must be finite, one for each of {channels} latent '
                              'channels, and scales above 0')
    return LatentStatistics(tuple(m + s * shift for m, s in zip(mean, std, strict=True)),
                            tuple(s / scale for s in std))
