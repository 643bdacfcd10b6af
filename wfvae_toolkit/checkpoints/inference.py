"""Native inference checkpoints: one set of weights and all that using them needs, without a training's state.

``meta`` (format, ``autoencoder``: its config as JSON, ``weights``: ``'ema'`` or ``'raw'``, ``latent_statistics`` as
JSON where they were measured, ``iteration`` where it is known) and ``weights``, the autoencoder's state dict.
"""

import json

import torch

from wfvae_toolkit.models.activations import HALVES
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import SettingError

from .native import FORMAT_VERSION, INFERENCE_FORMAT, CheckpointError, check_version, load_plain, plain_data

ACTIVATIONS = 'largest_activations'


def inference_content(model):
    """What the file of a TrainedModel holds."""
    meta = dict(format=INFERENCE_FORMAT, format_version=FORMAT_VERSION, weights=model.weights,
                autoencoder=json.dumps(plain_data(model.config)))
    if model.statistics is not None:
        meta['latent_statistics'] = statistics_to_json(model.statistics, model.meta.get('largest_activations'))
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


def statistics_to_json(statistics, activations=None):
    """The text under ``meta['latent_statistics']`` of native files."""
    more = {} if activations is None else {ACTIVATIONS: activations}
    return json.dumps({'mean': list(statistics.mean), 'std': list(statistics.std), **more})


def record_of(meta):
    """All that stands in ``meta['latent_statistics']`` of a native file that `statistics_of` has read; {}: nothing."""
    return json.loads(meta.get('latent_statistics') or '{}')


def activations_in(record, path):
    """{'largest_activations': ...} of what was recorded when latents were measured; {} where they were not.

    Raises:
        CheckpointError: they are none.
    """
    if record.get(ACTIVATIONS) is None:
        return {}
    try:
        found = record[ACTIVATIONS]
        halves = {half: {'value': float(found[half]['value']), 'module': str(found[half]['module'])} for half in HALVES}
        return {ACTIVATIONS: {**halves, 'images': int(found['images'])}}
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f'{path}: no readable {ACTIVATIONS} ({error})') from None


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
