"""From the path of a MODEL to a TrainedModel: find out what it is, read it, check it.

0. ``find_model``, in ``names.py``: a name of a shipped model or of the Hugging Face Hub becomes a path.
1. ``read_model_file``: a run's folder, a file or an exported folder?
2. ``_read_run``, ``_read_checkpoint`` or ``_read_folder``: open it and name its form.
3. The reader of that form (``native.py``, ``earlier.py``, ``ldm.py``, ``diffusers_settings.py``) makes a ModelFile.
4. ``ModelFile.select`` and ``TrainedModel.build``, in ``trained.py``, lead to the network.
"""

import logging

import torch

from wfvae_toolkit.utils.plugins import load_plugins

from .diffusers_settings import DIFFUSERS_CLASSES, diffusers_folder_model
from .earlier import earlier_checkpoint_models, earlier_folder_model
from .earlier_settings import CLASSES as EARLIER_CLASSES
from .folders import CONFIG_NAME, find_weights, read_config, read_prefixed, read_weights, weight_names
from .ldm import ldm_model, ldm_prefix
from .names import find_model
from .native import (
    FORMAT,
    INFERENCE_FORMAT,
    format_of,
    inference_model,
    list_checkpoints,
    load_plain,
    training_models,
)
from .trained import CheckpointError

ACCEPTED = ("a MODEL is a run's folder, a native checkpoint, an exported diffusers folder, an earlier .ckpt beside its "
            'config.json, an earlier exported folder, a single file of an AutoencoderKL in the naming of LDM '
            '(ae.safetensors, vae.ckpt), or a name')


def read_model(path, weights='ema'):
    """Recognise and read a MODEL without executing anything in it.

    Args:
        path (str | Path): a run's folder (its newest good checkpoint), a native checkpoint, an exported diffusers
            folder or a safetensors file in it, an earlier ``.ckpt`` beside its ``config.json``, or an earlier exported
            folder. Folders of diffusers' own AutoencoderKL, AutoencoderDC and AutoencoderTiny are read as well, and
            single files of an AutoencoderKL in LDM's naming (``ae.safetensors``, ``vae.ckpt``, ``vae.pt``). Or a name:
            a shipped model such as ``wfvae2-tiny``, or ``org/name[@revision]`` of the Hugging Face Hub.
        weights (str): ``'ema'`` or ``'raw'``.

    Returns:
        TrainedModel

    Raises:
        CheckpointError: not a MODEL, damaged, unsafe, or without these weights; the message names path and reason.
    """
    return read_model_file(path).select(weights)


def read_model_file(path):
    """``read_model`` with every set of weights that the MODEL holds. Returns a ModelFile."""
    load_plugins()  # a config may name their parts
    path = find_model(path)
    if path.is_dir():
        content = _read_run(path) if list_checkpoints(path) else _read_folder(path)
    elif path.name == CONFIG_NAME:
        content = _read_folder(path.parent)
    elif path.suffix in ('.safetensors', '.json'):  # the weights of a folder, or their index
        content = _read_weights_file(path)
    else:
        content = _read_checkpoint(path)
    return content.checked()


def _read_run(folder):
    """The newest checkpoint of a run that can be read. Newer damaged ones are skipped with a warning."""
    from mmengine.logging import print_log

    failed = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return _read_checkpoint(path)
        except CheckpointError as error:
            failed.append(error)
            print_log(f'{error}; trying the checkpoint before', 'current', logging.WARNING)
    raise CheckpointError(f'{folder}: none of its {len(failed)} checkpoints can be read; the newest: {failed[0]}')


def _read_checkpoint(path):
    content = load_plain(path)
    if format_of(content) == FORMAT:
        return training_models(content, path)
    if format_of(content) == INFERENCE_FORMAT:
        return inference_model(content, path)
    states = content.get('state_dict') if isinstance(content, dict) else None
    if isinstance(states, dict) and 'gen_model' in states:
        return earlier_checkpoint_models(content, path)
    if isinstance(content, dict):
        weights = states if isinstance(states, dict) else content
        state = {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
        if ldm_prefix(state) is not None:
            return ldm_model(state, state, path)
    raise CheckpointError(f'{path}: not a checkpoint of this toolkit or of the earlier code (no state_dict.gen_model); '
                          f'{ACCEPTED}')


def _read_weights_file(path):
    """A single file in LDM's naming, or the weights of the folder that it stands in."""
    names = weight_names(path) if path.suffix == '.safetensors' else []
    prefix = ldm_prefix(names)
    return _read_folder(path.parent, path) if prefix is None else ldm_model(read_prefixed(path, prefix), names, path)


def _read_folder(folder, weights_path=None):
    """An exported folder; ``weights_path``: the file in it whose weights are read, None to find it."""
    config_path = folder / CONFIG_NAME
    if not config_path.is_file():
        inside = next((name for name in ('vae', 'checkpoints') if (folder / name).is_dir()), None)
        raise CheckpointError(f'{folder}: no iter_N.pth and no {CONFIG_NAME} in it; {ACCEPTED}'
                              + (f' (try {folder / inside})' if inside else ''))
    settings = read_config(config_path)
    earlier_run = sorted(folder.glob('*.ckpt'))
    if weights_path is None and earlier_run and not any(folder.glob('*.safetensors*')):
        raise CheckpointError(f'{folder}: holds checkpoints of the earlier code; name one, such as {earlier_run[-1]}')
    name = settings.get('_class_name')
    known = (*EARLIER_CLASSES, *DIFFUSERS_CLASSES)
    if name not in known:
        raise CheckpointError(f'{config_path}: of a {name or "model without _class_name"}; supported are '
                              f'{", ".join(known)}; {ACCEPTED}')
    read = earlier_folder_model if name in EARLIER_CLASSES else diffusers_folder_model
    return read(folder, settings, read_weights(weights_path or find_weights(folder)))
