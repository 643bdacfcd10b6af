"""Exported models: a folder with config.json and safetensors, whole or in shards. No other file in it is opened."""

import contextlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wfvae_toolkit.utils.files import write_json

from .trained import CheckpointError

CONFIG_NAME = 'config.json'
RECORD_NAME = 'latent_statistics.json'  # on what, and with which results, latents were measured
WEIGHTS_NAME = 'diffusion_pytorch_model'
_ENDING, _INDEX = '.safetensors', '.safetensors.index'


def read_config(path):
    """config.json -> dict. CheckpointError unless it is a JSON object."""
    try:
        config = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path}: cannot be read as JSON ({error})') from None
    if not isinstance(config, dict):
        raise CheckpointError(f'{path}: a dict of settings is needed, it holds a {type(config).__name__}')
    return config


def find_weights(folder):
    """The weights of a folder: one safetensors file, or the index of shards.

    Without the plain name the only variant (``diffusion_pytorch_model.fp16.safetensors``) is taken.

    Raises:
        CheckpointError: none, or several variants; the message lists them.
    """
    folder = Path(folder)
    plain = [folder / f'{WEIGHTS_NAME}{_ENDING}', folder / f'{WEIGHTS_NAME}{_INDEX}.json']
    for path in plain:
        if path.is_file():
            return path
    variants = sorted(path for path in folder.glob(f'{WEIGHTS_NAME}.*')
                      if (path.suffix == _ENDING and '-of-' not in path.name) or f'{_INDEX}.' in path.name)
    if len(variants) == 1:
        return variants[0]
    if variants:
        raise CheckpointError(f'{folder}: several variants; name one of {", ".join(path.name for path in variants)}')
    pickled = sorted(path.name for path in folder.glob(f'{WEIGHTS_NAME}*.bin'))
    raise CheckpointError(f'{folder}: no {plain[0].name} in it' + (
        f'; {pickled[0]} is a pickle, which is not read: save the model with safe_serialization=True' if pickled
        else ''))


def read_weights(path):
    """State dict on the CPU of a safetensors file, or of all shards of an index.

    Raises:
        CheckpointError: missing, damaged, or an index that names files elsewhere or other tensors than they hold.
    """
    path = Path(path)
    if path.suffix == _ENDING:
        return read_prefixed(path, '')
    index = read_config(path).get('weight_map')
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise CheckpointError(f'{path}: not an index of shards (it has no weight_map)')
    state = {}
    for name in sorted(set(index.values())):
        if Path(name).name != name or not name.endswith(_ENDING):
            raise CheckpointError(f'{path}: names {name!r}, which is not a safetensors file beside it')
        state.update(read_prefixed(path.with_name(name), ''))
    strange = sorted(state.keys() ^ index.keys())
    if strange:
        raise CheckpointError(f'{path}: index and shards differ in {", ".join(strange[:5])}')
    return state


def weight_names(path):
    """Names in a safetensors file; no weight is read. CheckpointError: missing or damaged."""
    with _opened(path) as file:
        return list(file.keys())


def read_prefixed(path, prefix):
    """The weights of a safetensors file whose names start with ``prefix``. CheckpointError: missing or damaged."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def write_folder(folder, config, state):
    """config.json and diffusion_pytorch_model.safetensors in an existing folder; returns both paths."""
    paths = [Path(folder) / CONFIG_NAME, Path(folder) / f'{WEIGHTS_NAME}{_ENDING}']
    write_json(paths[0], config)
    # Tensors may be channels-last; safetensors stores rows.
    save_file({name: value.contiguous() for name, value in state.items()}, paths[1], metadata={'format': 'pt'})
    return paths


@contextlib.contextmanager
def _opened(path):
    if not path.is_file():
        raise CheckpointError(f'{path}: no such file')
    try:
        with safe_open(path, 'pt') as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'{path}: damaged or not a safetensors file ({error})') from None
