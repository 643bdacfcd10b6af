"""Checkpoint files of this toolkit: tensors and plain values, written atomically.

A training checkpoint, ``iter_N.pth`` after N updates, holds ``meta`` (format, iteration, consumed samples, seed,
``autoencoder``: its config as JSON), ``state_dict`` (raw weights of autoencoder and discriminator, without frozen loss
networks), ``ema_state_dict`` (the autoencoder only, with its own keys), ``optimizers``, and what hooks add.

An inference checkpoint holds ``meta`` (format, ``autoencoder``, ``weights``: ``'ema'`` or ``'raw'``, ``iteration`` if
known) and ``weights``, the autoencoder's state dict.

In both, ``meta['latent_statistics']`` is a JSON text, present if latents were measured. A trailer holds a checksum of
the file (``integrity.py``).
"""

import json
import pickle
import re
import struct
import zipfile
from pathlib import Path

import torch

from wfvae_toolkit.models.activations import HALVES
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import SettingError, UnknownSetting
from wfvae_toolkit.utils.files import atomic_write

from .integrity import SummedFile, check_file, without_record_sums
from .trained import CheckpointError, ModelFile, TrainedModel

FORMAT = 'wfvae_toolkit training checkpoint'
INFERENCE_FORMAT = 'wfvae_toolkit inference checkpoint'
FORMAT_VERSION = 2  # 1 had no trailer, and the sums of torch's zip
ACTIVATIONS = 'largest_activations'
# What torch.load raised in 6,000 tries on damaged bytes.
_DAMAGED = (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
            struct.error, zipfile.BadZipFile)
_NAME = re.compile(r'iter_(\d+)\.pth')
LAST = 'last_checkpoint'


def save_training_checkpoint(checkpoint, path, autoencoder_config):
    """Write atomically; adds format and the autoencoder's config to ``meta``. WriteError names path and reason."""
    checkpoint['meta'].update(format=FORMAT, format_version=FORMAT_VERSION,
                              autoencoder=json.dumps(plain_data(autoencoder_config)))
    save_plain(checkpoint, path)


def save_plain(content, path):
    """Write a file for ``load_plain`` atomically, with its checksum."""
    with atomic_write(path) as file, without_record_sums():
        summed = SummedFile(file)
        try:
            torch.save(content, summed)
        except RuntimeError:
            if summed.error is None:
                raise
            raise summed.error from None
        summed.finish()


def load_training_checkpoint(path, map_location='cpu'):
    """Read a file of ``save_training_checkpoint`` without executing anything in it.

    Raises:
        CheckpointError: missing, damaged in any byte, another format, or with content beyond plain data.
    """
    path = Path(path)
    checkpoint = load_plain(path, map_location)
    if format_of(checkpoint) == INFERENCE_FORMAT:
        raise CheckpointError(f'{path}: holds weights for inference, no state of a training to resume; '
                              f'load_from={str(path)!r} starts a new training from it')
    if format_of(checkpoint) != FORMAT:
        raise CheckpointError(f'{path}: not a checkpoint of this toolkit (its meta does not say {FORMAT!r})')
    check_version(checkpoint, path)
    return checkpoint


def load_plain(path, map_location='cpu'):
    """The content of a torch file that holds tensors and plain values only; executes nothing in it.

    Raises:
        CheckpointError: missing, damaged in any byte, or with content beyond plain data.
    """
    if not Path(path).is_file():
        raise CheckpointError(f'{path}: no such file')
    try:
        check_file(path)
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f'{path}: refused, it holds more than tensors and plain values, which could run code '
                              f'({str(error).splitlines()[0]})') from None
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(f'{path}: damaged or not a checkpoint ({reason.splitlines()[0]})') from None


def format_of(content):
    """The format that a file of this toolkit names in its ``meta``; None for any other content."""
    meta = content.get('meta') if isinstance(content, dict) else None
    return meta.get('format') if isinstance(meta, dict) else None


def check_version(content, path):
    """CheckpointError if a later version of the toolkit wrote the file."""
    version = content['meta'].get('format_version')
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(f'{path}: format {version}, this version reads up to {FORMAT_VERSION}; '
                              'update wfvae_toolkit')


def list_checkpoints(work_dir):
    """Checkpoint files of a run, sorted by iteration as a number: 100000 comes after 9500."""
    found = [(int(match[1]), path) for path in Path(work_dir).glob('iter_*.pth')
             if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def find_resumable(work_dir, warn):
    """Newest checkpoint of a run that can be read; None if the run has no checkpoint.

    Newer damaged ones are skipped, and each is reported by ``warn(text)``. CheckpointError if all are damaged.
    """
    paths = list_checkpoints(work_dir)
    for path in reversed(paths):
        try:
            load_training_checkpoint(path, map_location='meta')
        except CheckpointError as error:
            warn(f'{error}; trying the checkpoint before')
        else:
            return path
    if paths:
        raise CheckpointError(f'{work_dir}: none of its {len(paths)} checkpoints can be read')
    return None


def training_models(content, path):
    """ModelFile of the content of a training checkpoint: the averaged weights, if there are any, and the raw ones."""
    check_version(content, path)
    raw = {key: value for key, value in content['state_dict'].items() if key.startswith('autoencoder.')}
    states = {'ema': content.get('ema_state_dict'),
              'raw': {key.removeprefix('autoencoder.'): value for key, value in raw.items()}}
    others = {key: value for key, value in content['state_dict'].items() if key not in raw}
    run = content['meta'].get('run')
    # Checkpoints of earlier versions have no record, or a shorter one.
    told = {'run': run} if isinstance(run, dict) and run.keys() >= {'settings', 'images_per_iteration', 'data'} else {}
    return ModelFile({weights: _model(content['meta'], state, path, 'native', weights, **told)
                      for weights, state in states.items() if state is not None}, others)


def inference_model(content, path):
    """ModelFile of the content of an inference checkpoint: its one set of weights."""
    check_inference(content, path)
    weights = content['meta']['weights']
    return ModelFile({weights: _model(content['meta'], content['weights'], path, 'inference', weights)})


def _model(meta, state, path, form, weights, **told):
    try:
        config = json.loads(meta['autoencoder'])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: no readable config of its autoencoder in meta ({error})') from None
    statistics = statistics_of(meta, path)
    return TrainedModel(config, state, statistics, path, form, weights,
                        {'iteration': meta.get('iteration'), **activations_in(record_of(meta), path), **told})


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
    """Content of an inference checkpoint; executes nothing in it. CheckpointError otherwise."""
    content = load_plain(path)
    check_inference(content, path)
    return content


def check_inference(content, path):
    """CheckpointError unless ``content`` is that of an inference checkpoint that this version reads."""
    check_version(content, path)
    weights = content.get('weights')
    if content['meta'].get('weights') not in ('ema', 'raw') or not isinstance(weights, dict) or not all(
            isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f'{path}: damaged: it holds no weights')


def plain_data(config):
    """Config -> dicts, lists, numbers and strings that JSON holds exactly.

    Raises:
        UnknownSetting: a value that JSON has no form for.
    """
    if isinstance(config, dict):
        return {str(key): plain_data(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain_data(value) for value in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise UnknownSetting(f"a model's config holds {config!r}; checkpoints keep it as text: use numbers, strings, lists "
                         'and dicts, and name a part by a string')


def statistics_to_json(statistics, activations=None):
    """The text under ``meta['latent_statistics']`` of native files."""
    more = {} if activations is None else {ACTIVATIONS: activations}
    return json.dumps({'mean': list(statistics.mean), 'std': list(statistics.std), **more})


def record_of(meta):
    """All that ``meta['latent_statistics']`` holds, after `statistics_of` has read it; {} if it is not there."""
    return json.loads(meta.get('latent_statistics') or '{}')


def activations_in(record, path):
    """{'largest_activations': ...} of the record of a measurement; {} if it has none.

    Raises:
        CheckpointError: the values are not readable.
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
    """LatentStatistics in the ``meta`` of a file of this toolkit; None if they were never measured."""
    text = meta.get('latent_statistics')
    if text is None:
        return None
    try:
        values = json.loads(text)
        return LatentStatistics(tuple(map(float, values['mean'])), tuple(map(float, values['std'])))
    except (TypeError, KeyError, ValueError, SettingError) as error:
        raise CheckpointError(f'{path}: no readable latent_statistics in its meta ({error})') from None
