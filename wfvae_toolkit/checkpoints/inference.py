"""Native inference checkpoints: one set of weights and all that using them needs, without a training's state.

``meta`` (format, ``autoencoder``: its config as JSON, ``weights``: ``'ema'`` or ``'raw'``, ``latent_statistics`` as
JSON where they were measured, ``iteration`` where it is known) and ``weights``, the autoencoder's state dict.
"""

import json

import torch

from wfvae_toolkit.models.latents import LatentStatistics
from wfvae_toolkit.utils.errors import SettingError

from .native import FORMAT_VERSION, INFERENCE_FORMAT, CheckpointError, check_version, load_plain, plain_data


def inference_content(model):
    """What the file of a TrainedModel holds."""
    meta = dict(format=INFERENCE_FORMAT, format_version=FORMAT_VERSION, weights=model.weights,
                autoencoder=json.dumps(plain_data(model.config)))
    if model.statistics is not None:
        meta['latent_statistics'] = statistics_to_json(model.statistics)
    if model.meta.get('iteration') is not None:
        meta['iteration'] = model.meta['iteration']
    return {'meta': meta, 'weights': dict(model.state)}


def load_inference_checkpoint(path):
    """Content of a file that ``inference_content`` described; executes nothing in it. CheckpointError otherwise."""
    content = load_plain(path)
    check_version(content, path)
    weights = content.get('weights')
    if content['meta'].get('weights') not in ('ema', 'raw') or not isinstance(weights, dict) or not all(
            isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f'{path}: damaged: no weights in it')
    return content


def statistics_to_json(statistics):
    """The text under ``meta['latent_statistics']`` of native files."""
    return json.dumps({'mean': list(statistics.mean), 'std': list(statistics.std)})


def statistics_of(meta, path):
    """LatentStatistics of a native file's meta; None where they were never measured."""
    text = meta.get('latent_statistics')
    if text is None:
        return None
    try:
        values = json.loads(text)
        return LatentStatistics(tuple(map(float, values['mean'])), tuple(map(float, values['std'])))
    except (TypeError, KeyError, ValueError, SettingError) as error:
        raise CheckpointError(f'{path}: no readable latent_statistics in its meta ({error})') from None
