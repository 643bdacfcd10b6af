"""Checkpoint files of a training run: tensors and plain values, whole or not there.

``iter_N.pth`` after N updates: ``meta`` (format, iteration, consumed samples, seed, ``autoencoder``: its
config as JSON), ``state_dict`` (raw weights of autoencoder and discriminator, frozen loss networks left
out), ``ema_state_dict`` (autoencoder alone, its own keys), ``optimizers``, and what hooks add. A trailer holds
a checksum of the file (``integrity.py``).
"""

import json
import pickle
import re
import struct
import zipfile
from pathlib import Path

import torch

from wfvae_toolkit.registry import AUTOENCODERS, unregistered_types
from wfvae_toolkit.utils.errors import UnknownSetting, UserError
from wfvae_toolkit.utils.files import atomic_write

from .integrity import SummedFile, check_file, without_record_sums

FORMAT = 'wfvae_toolkit training checkpoint'
INFERENCE_FORMAT = 'wfvae_toolkit inference checkpoint'
FORMAT_VERSION = 2  # 1 had no trailer, and the sums of torch's zip
# What reading damaged bytes raised in 6,000 tries.
_DAMAGED = (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
            struct.error, zipfile.BadZipFile)
_NAME = re.compile(r'iter_(\d+)\.pth')
LAST = 'last_checkpoint'


class CheckpointError(UserError, RuntimeError):
    """A file that is no whole, safe checkpoint of the expected kind; the message names it and the reason."""


def save_training_checkpoint(checkpoint, path, autoencoder_config):
    """Write atomically; adds format and the autoencoder's config to ``meta``. WriteError names path and reason."""
    checkpoint['meta'].update(format=FORMAT, format_version=FORMAT_VERSION,
                              autoencoder=json.dumps(plain_data(autoencoder_config)))
    save_plain(checkpoint, path)


def save_plain(content, path):
    """What ``load_plain`` reads, written atomically, with its checksum."""
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
        raise CheckpointError(f'{path}: not a checkpoint of this toolkit (its meta says no {FORMAT!r})')
    check_version(checkpoint, path)
    return checkpoint


def load_plain(path, map_location='cpu'):
    """What a torch file holds, if that is tensors and plain values; executes nothing in it.

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
        raise CheckpointError(f'{path}: damaged or no checkpoint ({reason.splitlines()[0]})') from None


def format_of(content):
    """The format that a native file names in its ``meta``; None where there is none."""
    meta = content.get('meta') if isinstance(content, dict) else None
    return meta.get('format') if isinstance(meta, dict) else None


def check_version(content, path):
    """CheckpointError for a native file that a later version of the toolkit wrote."""
    version = content['meta'].get('format_version')
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(f'{path}: format {version}, this version reads up to {FORMAT_VERSION}; '
                              'update wfvae_toolkit')


def list_checkpoints(work_dir):
    """Checkpoint files of a run by iteration, a number and not a name: 100000 comes after 9500."""
    found = [(int(match[1]), path) for path in Path(work_dir).glob('iter_*.pth')
             if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def find_resumable(work_dir, warn):
    """Newest checkpoint of a run that reads well, None if there is none.

    Damaged newer ones are passed over and named through ``warn``. CheckpointError if all are damaged.
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


def select_weights(checkpoint, path, weights):
    """(config, state dict) of the autoencoder in a training checkpoint."""
    states = {'raw': {key.removeprefix('autoencoder.'): value for key, value in checkpoint['state_dict'].items()
                      if key.startswith('autoencoder.')}, 'ema': checkpoint.get('ema_state_dict')}
    if states.get(weights) is None:
        raise CheckpointError(f'{path}: has no {weights} weights, only '
                              f'{", ".join(name for name, state in states.items() if state is not None)}')
    try:
        config = json.loads(checkpoint['meta']['autoencoder'])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f'{path}: no readable config of its autoencoder in meta ({error})') from None
    return config, states[weights]


def build_autoencoder(config, state, path, weights):
    """Autoencoder of a config that came from a file, filled strictly, in evaluation mode."""
    check_registered(config, path)
    try:
        autoencoder = AUTOENCODERS.build(config)
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f'{path}: its config builds no autoencoder: {error}') from None
    try:
        autoencoder.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f'{path}: {weights} weights do not fit its own config: {error}') from None
    return autoencoder.eval()


def check_registered(config, path):
    """CheckpointError unless every ``type`` in a config that came from a file is a registered name."""
    for name in unregistered_types(config):
        raise CheckpointError(f'{path}: its config names type {name!r}, which no registry holds; import the plug-in '
                              'that registers it first')


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
