"""Writers of a small model in the forms that are read."""

import json

import torch
from safetensors.torch import save_file

from tests.helpers import SMALL, build_small
from wfvae_toolkit.checkpoints import save_training_checkpoint

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
