"""Latent statistics inside model files."""

import hashlib
import json
from dataclasses import replace

import torch

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_write, write_json

from .card import CARD_NAME, measured_anew
from .folders import RECORD_NAME
from .names import SHIPPED_FOLDER
from .native import (
    LAST,
    activations_in,
    load_inference_checkpoint,
    load_training_checkpoint,
    save_plain,
    save_training_checkpoint,
)

META_KEY = 'latent_statistics'


def write_statistics(model, statistics, record=None):
    """Write the mean and std of its latents into a model's own file, atomically; nothing else in it changes.

    | form | where |
    | --- | --- |
    | native file | ``meta['latent_statistics']``: JSON of ``mean``, ``std`` and the record |
    | exported folder | config.json: ``latents_mean``, ``latents_std``, ``scaling_factor`` 1, ``shift_factor`` 0 |
    | earlier checkpoint or folder | config.json: ``scale`` and ``shift``, normalised = (raw - shift) * scale |

    Folders keep the record in ``latent_statistics.json``, and their README.md follows, unless it was edited. The folder
    of a run gets that file too, with the name of the ``checkpoint``: the report shows it.

    Args:
        model (TrainedModel): as ``read_model`` gave it; its file must not have been moved since.
        statistics (LatentStatistics): one mean and std a latent channel.
        record (dict): what they were measured on, plain data.

    Returns:
        Path: the file that was written.

    Raises:
        SettingError: a shipped model, a file in LDM's naming, or another number of channels than the model's config
            states.
    """
    check_writable(model)
    channels = model.config.get('latent_channels')
    if channels not in (None, len(statistics.mean)):
        raise SettingError(f'{model.path}: statistics of {len(statistics.mean)} channels for a model of {channels}')
    content = {'mean': list(statistics.mean), 'std': list(statistics.std), **(record or {})}
    if model.form in ('native', 'inference'):
        _write_native(model, content)
        return model.path
    folder = model.path if model.path.is_dir() else model.path.parent
    if model.form == 'diffusers':
        settings = {'latents_mean': content['mean'], 'latents_std': content['std'],
                    'scaling_factor': 1.0, 'shift_factor': 0.0}
    else:
        settings = {'scale': [1.0 / std for std in statistics.std], 'shift': content['mean']}
    path = folder / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    write_json(folder / RECORD_NAME, content)
    write_json(path, {**config, **settings})
    card = folder / CARD_NAME
    if card.is_file():
        measured = replace(model, statistics=statistics, meta={**model.meta, **activations_in(content, path)})
        text = measured_anew(card.read_text(encoding='utf-8'), measured)
        if text is not None:
            with atomic_write(card, 'w') as file:
                file.write(text)
    return path


def check_writable(model):
    """SettingError for a shipped model, whose files belong to the installation, and a form without statistics."""
    if model.form == 'ldm':
        raise SettingError(f'{model.path}: a file in the naming of LDM has no place for latent statistics; '
                           f'tools/convert.py {model.path} NAME.pth --to native makes a copy that has')
    if model.path.resolve().is_relative_to(SHIPPED_FOLDER):
        raise SettingError(f'{model.path.name} belongs to the installation, and nothing is written into it; '
                           f'tools/convert.py {model.path.name} FOLDER --to diffusers makes a copy of your own')


def fingerprint(model):
    """SHA-256 of a TrainedModel's config and weights, 64 hex digits; its statistics and its file do not count."""
    digest = hashlib.sha256(json.dumps(model.config, sort_keys=True).encode())
    for key, value in sorted(model.state.items()):
        digest.update(f'\n{key} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _write_native(model, content):
    inference = model.form == 'inference'
    checkpoint = (load_inference_checkpoint if inference else load_training_checkpoint)(model.path)
    checkpoint['meta'][META_KEY] = json.dumps(content)
    if inference:
        save_plain(checkpoint, model.path)
        return
    save_training_checkpoint(checkpoint, model.path, json.loads(checkpoint['meta']['autoencoder']))
    if (model.path.parent / LAST).is_file():
        write_json(model.path.parent / RECORD_NAME, {'checkpoint': model.path.name, **content})
