"""Writers of a small model in the forms that are read."""

import json

import torch
from safetensors.torch import save_file

from tests.helpers import SMALL, build_small
from wfvae_toolkit.checkpoints import save_training_checkpoint
from wfvae_toolkit.utils.torchvision_shim import import_diffusers

EXPORTED = {'_class_name': 'AutoencoderWFVAE2', '_diffusers_version': '0', 'latent_channels': 3,
            'widths': [8, 12], 'flow_width': 4, 'norm': {'type': 'LayerNorm2d'}, 'wavelet': None,
            'scaling_factor': 0.5, 'shift_factor': 0.25, 'latents_mean': [1.0, 2.0, 3.0],
            'latents_std': [2.0, 4.0, 8.0], 'block_out_channels': [8, 12]}


WEIGHTS = 'diffusion_pytorch_model'


def same(model, other):
    images = torch.rand(1, 3, 8, 12)
    return torch.equal(model(images), other(images))


def write_exported(folder, settings=EXPORTED, state=None, name=f'{WEIGHTS}.safetensors'):
    folder.mkdir(exist_ok=True)
    (folder / 'config.json').write_text(json.dumps(settings), encoding='utf-8')
    state = build_small().state_dict() if state is None else state
    save_file({key: value.contiguous() for key, value in state.items()}, folder / name)
    return folder


def write_native(path, iteration=1, **meta):
    raw = {f'autoencoder.{key}': value for key, value in build_small(1).state_dict().items()}
    save_training_checkpoint(
        {'meta': {'iteration': iteration, 'seed': 0, **meta}, 'optimizers': {},
         'state_dict': {**raw, 'discriminator.score.bias': torch.zeros(1)},
         'ema_state_dict': build_small(0).state_dict()},
        path, SMALL)
    return path


LDM_BLOCK = ('norm1', 'conv1', 'norm2', 'conv2')
LDM_ATTENTION = dict(group_norm='norm', to_q='q', to_k='k', to_v='v')


def diffusers_kl(latent_channels=4, widths=(32, 64), layers=1, quant_conv=True):
    """AutoencoderKL of diffusers with random weights, norms included."""
    torch.manual_seed(0)
    model = import_diffusers().AutoencoderKL(
        latent_channels=latent_channels, block_out_channels=widths, layers_per_block=layers, norm_num_groups=32,
        down_block_types=('DownEncoderBlock2D',) * len(widths), up_block_types=('UpDecoderBlock2D',) * len(widths),
        use_quant_conv=quant_conv, use_post_quant_conv=quant_conv).eval()
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return model


def ldm_names(model):
    """State dict of an AutoencoderKL under the names of LDM; shares nothing with the map that reads them."""
    state = {}

    def put(name, module):
        state.update({f'{name}.{key}': value.clone() for key, value in module.state_dict().items()})

    def put_block(name, block):
        for part in LDM_BLOCK:
            put(f'{name}.{part}', getattr(block, part))
        if block.conv_shortcut is not None:
            put(f'{name}.nin_shortcut', block.conv_shortcut)

    for half in ('encoder', 'decoder'):
        network = getattr(model, half)
        put(f'{half}.conv_in', network.conv_in)
        put(f'{half}.conv_out', network.conv_out)
        put(f'{half}.norm_out', network.conv_norm_out)
        for number, block in enumerate(network.mid_block.resnets, 1):
            put_block(f'{half}.mid.block_{number}', block)
        attention = network.mid_block.attentions[0]
        for part, name in {**LDM_ATTENTION, 'to_out': 'proj_out'}.items():
            layer = getattr(attention, part)
            put(f'{half}.mid.attn_1.{name}', layer[0] if part == 'to_out' else layer)
            weight = f'{half}.mid.attn_1.{name}.weight'
            if state[weight].dim() == 2:
                state[weight] = state[weight][:, :, None, None].clone()
        down = half == 'encoder'
        stages = network.down_blocks if down else list(network.up_blocks)[::-1]
        for number, stage in enumerate(stages):
            name = f'{half}.{"down" if down else "up"}.{number}'
            for index, block in enumerate(stage.resnets):
                put_block(f'{name}.block.{index}', block)
            sampler = stage.downsamplers if down else stage.upsamplers
            if sampler is not None:
                put(f'{name}.{"downsample" if down else "upsample"}.conv', sampler[0].conv)
    for name in ('quant_conv', 'post_quant_conv'):
        if getattr(model, name) is not None:
            put(name, getattr(model, name))
    assert len(state) == len(model.state_dict())
    return state
