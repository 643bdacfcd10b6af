"""Single files in the names of latent-diffusion, such as ``ae.safetensors`` and ``vae.ckpt`` -> AutoencoderKL.

Only its one architecture is read: 32 groups in every norm, an attention between two blocks at the latent's size
(Rombach et al. 2022, github.com/CompVis/latent-diffusion). All else follows from names and shapes. diffusers has such a
map as well, but its module imports transformers, and passes over names that it does not know.
"""

import collections
import re

from mmengine.logging import print_log

from .trained import CheckpointError, ModelFile, TrainedModel

# Of the autoencoder in a checkpoint of a whole pipeline; '' in a file of the autoencoder alone.
PREFIXES = ('', 'first_stage_model.', 'vae.')
_FIRST = 'encoder.down.0.block.0.conv1.weight'
# What a training of the autoencoder keeps beside it: discriminator and LPIPS, and averages under names without dots.
_OTHERS = ('loss.', 'model_ema.')
_GROUPS = 32
_RULES = [(re.compile(pattern), replacement) for pattern, replacement in (
    (r'^(encoder|decoder)\.norm_out\.', r'\1.conv_norm_out.'),
    (r'^encoder\.down\.(\d+)\.block\.', r'encoder.down_blocks.\1.resnets.'),
    (r'^encoder\.down\.(\d+)\.downsample\.', r'encoder.down_blocks.\1.downsamplers.0.'),
    (r'^decoder\.up\.(\d+)\.block\.', r'decoder.up_blocks.\1.resnets.'),
    (r'^decoder\.up\.(\d+)\.upsample\.', r'decoder.up_blocks.\1.upsamplers.0.'),
    (r'\.nin_shortcut\.', '.conv_shortcut.'),
    (r'\.mid\.block_1\.', '.mid_block.resnets.0.'),
    (r'\.mid\.block_2\.', '.mid_block.resnets.1.'),
    (r'\.mid\.attn_1\.norm\.', '.mid_block.attentions.0.group_norm.'),
    (r'\.mid\.attn_1\.([qkv])\.', r'.mid_block.attentions.0.to_\1.'),
    (r'\.mid\.attn_1\.proj_out\.', '.mid_block.attentions.0.to_out.0.'),
)]
_UP_BLOCK = re.compile(r'^(decoder\.up_blocks\.)(\d+)')


def ldm_prefix(names):
    """What stands before the autoencoder's weights among ``names``; None if none are in LDM's naming."""
    return next((prefix for prefix in PREFIXES if f'{prefix}{_FIRST}' in names), None)


def ldm_model(state, names, path):
    """ModelFile of a file in LDM's naming: an AutoencoderKL without latent statistics, which such a file never has.

    Args:
        state (dict[str, Tensor]): the weights, at least those with the prefix.
        names (Collection[str]): of all weights in the file.
        path (Path): the file.

    Raises:
        CheckpointError: another architecture.
    """
    prefix = ldm_prefix(names)
    own = {name.removeprefix(prefix): value for name, value in state.items()
           if name.startswith(prefix) and not name.removeprefix(prefix).startswith(_OTHERS)}
    passed_over = [name for name in names if not name.startswith(prefix) or name.removeprefix(prefix) not in own]
    config = _config(own, path)
    stages = len(config['widths'])
    converted = {}
    for name, value in own.items():
        for pattern, replacement in _RULES:
            name = pattern.sub(replacement, name)
        # LDM counts both halves from the image; diffusers counts the decoder from the latent.
        name = _UP_BLOCK.sub(lambda match: f'{match[1]}{stages - 1 - int(match[2])}', name)
        # A 1x1 conv there, a linear layer here.
        in_attention = '.attentions.' in name and value.dim() == 4
        converted[name] = value[:, :, 0, 0] if in_attention else value
    _report(config, passed_over, path)
    return ModelFile({'ema': TrainedModel(config, converted, None, path, 'ldm', 'ema', {'class': 'AutoencoderKL'})})


def _config(state, path):
    """AUTOENCODERS config from names and shapes."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    stages = _count(r'encoder\.down\.(\d+)\.', shapes)
    wanted = [_FIRST, 'decoder.conv_in.weight', 'encoder.conv_out.weight', 'encoder.conv_in.weight',
              *(f'encoder.down.{stage}.block.0.conv1.weight' for stage in range(stages)),
              *(f'{half}.mid.attn_1.q.weight' for half in ('encoder', 'decoder'))]
    missing = [name for name in wanted if len(shapes.get(name, ())) not in (2, 4)]
    if missing:
        raise CheckpointError(f'{path}: in the naming of LDM, but not an AutoencoderKL: no {missing[0]}')
    latent_channels = state.get('post_quant_conv.weight', state['decoder.conv_in.weight']).shape[1]
    encoded = shapes['encoder.conv_out.weight'][0]
    if encoded != 2 * latent_channels:
        raise CheckpointError(f'{path}: in the naming of LDM, but not an AutoencoderKL: its encoder gives {encoded} '
                              f'channels for {latent_channels} latent ones, which is no mean and variance')
    if shapes['encoder.conv_in.weight'][1] != 3:
        raise CheckpointError(f'{path}: of images with {shapes["encoder.conv_in.weight"][1]} channels; only 3 is '
                              'supported')
    return dict(type='DiffusersAutoencoderKL', latent_channels=latent_channels,
                widths=[shapes[f'encoder.down.{stage}.block.0.conv1.weight'][0] for stage in range(stages)],
                layers=_count(r'encoder\.down\.0\.block\.(\d+)\.', shapes), groups=_GROUPS,
                quant_conv='quant_conv.weight' in shapes)


def _count(pattern, names):
    """One more than the largest number that ``pattern`` finds at the start of a name."""
    return 1 + max(int(match[1]) for name in names if (match := re.match(pattern, name)))


def _report(config, passed_over, path):
    text = (f'{path}: read as an AutoencoderKL of {config["latent_channels"]} latent channels and widths '
            f'{tuple(config["widths"])}; such a file has no scale and shift of latents, which stay raw until '
            'tools/measure_latents.py measures a copy (tools/convert.py --to native makes one)')
    if passed_over:
        first = collections.Counter(name.partition('.')[0] for name in passed_over)
        text += f'; passed over: {len(passed_over)} weights of {", ".join(sorted(first))}'
    print_log(text, 'current')
