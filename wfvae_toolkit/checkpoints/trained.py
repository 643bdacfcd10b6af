"""A trained autoencoder in any of the forms that users have."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.plugins import load_plugins

from .diffusers_settings import EXPORTED_CLASS, from_diffusers_settings, rename_old_attention
from .earlier import convert_earlier_state
from .earlier_settings import CLASSES, from_earlier_settings
from .folders import CONFIG_NAME, RECORD_NAME, find_weights, read_config, read_weights
from .inference import activations_in, load_inference_checkpoint, record_of, statistics_of
from .native import (
    FORMAT,
    INFERENCE_FORMAT,
    CheckpointError,
    build_autoencoder,
    check_registered,
    format_of,
    list_checkpoints,
    load_plain,
    load_training_checkpoint,
    select_weights,
)

ACCEPTED = ("a MODEL is a run's folder, a native checkpoint, an exported diffusers folder, an earlier .ckpt beside its "
            'config.json, or an earlier exported folder')
_DIFFUSERS = (EXPORTED_CLASS, 'AutoencoderKL', 'AutoencoderDC')


@dataclass
class TrainedModel:
    """All that building, using or converting a trained autoencoder needs; nothing of it is built yet.

    Args:
        config (dict): AUTOENCODERS config, plain data.
        state (dict[str, Tensor]): weights under our key names, on the CPU.
        statistics (LatentStatistics): of its latents; None: never measured.
        path (Path): the file or folder that was read.
        form (str): ``'native'``, ``'inference'``, ``'diffusers'``, ``'earlier checkpoint'`` or ``'earlier folder'``.
        weights (str): ``'ema'`` or ``'raw'``; a form without the distinction has ``'ema'``.
        meta (dict): what else the form says, such as ``iteration``; ``largest_activations`` where they were measured
            (see ``models.activations``, with ``images``, how many); of earlier forms ``class`` and, where the averaged
            weights held the decoder alone, ``encoder_from='gen_model'``.
    """

    config: dict
    state: dict[str, torch.Tensor]
    statistics: LatentStatistics | None
    path: Path
    form: str
    weights: str
    meta: dict = field(default_factory=dict)

    def build(self):
        """The autoencoder, filled strictly, in evaluation mode on the CPU. CheckpointError if anything does not fit."""
        model = build_autoencoder(self.config, self.state, self.path, self.weights)
        if self.statistics is not None and len(self.statistics.mean) != model.latent_channels:
            raise CheckpointError(f'{self.path}: statistics of {len(self.statistics.mean)} latent channels for '
                                  f'{model.latent_channels}')
        return model


@dataclass
class ModelFile:
    """A MODEL as read: each set of weights that it holds, and what it holds beside the autoencoder.

    Args:
        models (dict[str, TrainedModel]): by ``'ema'`` and ``'raw'``, at least one.
        others (dict[str, Tensor]): names and tensors of the training model outside of its autoencoder, such as
            ``discriminator.*``; empty but for native training checkpoints.
    """

    models: dict[str, TrainedModel]
    others: dict[str, torch.Tensor] = field(default_factory=dict)

    def select(self, weights='ema'):
        """One TrainedModel.

        Raw weights stand for ``'ema'`` where a file for inference was made of them, and where an earlier training kept
        no average; everything else that is not there is a CheckpointError.
        """
        if weights in self.models:
            return self.models[weights]
        only = next(iter(self.models.values()))
        if weights == 'ema' and only.form in ('inference', 'earlier checkpoint'):
            return only
        raise CheckpointError(f'{only.path}: has no {weights} weights, only {", ".join(self.models)}')


def read_model(path, weights='ema'):
    """Recognise and read a MODEL without executing anything in it.

    Args:
        path (str | Path): a run's folder (its newest good checkpoint), a native checkpoint, an exported diffusers
            folder or a safetensors file in it, an earlier ``.ckpt`` beside its ``config.json``, or an earlier exported
            folder. Folders of diffusers' own AutoencoderKL and AutoencoderDC are read as well.
        weights (str): ``'ema'`` or ``'raw'``.

    Returns:
        TrainedModel

    Raises:
        CheckpointError: not a MODEL, damaged, unsafe, or without these weights; the message names path and reason.
    """
    return read_model_file(path).select(weights)


def read_model_file(path):
    """``read_model`` with every set of weights that the MODEL holds. Returns a ModelFile."""
    load_plugins()
    content = _recognise(Path(path).expanduser())
    for model in content.models.values():
        if not isinstance(model.config, dict):
            raise CheckpointError(f'{model.path}: its config is no dict, but {model.config!r}')
        check_registered(model.config, model.path)
    return content


def _recognise(path):
    if path.is_dir():
        return _read_run(path) if list_checkpoints(path) else _read_folder(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: no such file or folder')
    if path.suffix == '.safetensors' or path.name.endswith('.json'):
        return _read_folder(path.parent, None if path.name == CONFIG_NAME else path)
    return _read_file(path)


def _read_run(folder):
    """The newest checkpoint that reads well; damaged newer ones are passed over with a warning, as on resuming."""
    from mmengine.logging import print_log

    failed = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return _read_file(path)
        except CheckpointError as error:
            failed.append(error)
            print_log(f'{error}; trying the checkpoint before', 'current', logging.WARNING)
    raise CheckpointError(f'{folder}: none of its {len(failed)} checkpoints can be read; the newest: {failed[0]}')


def _read_file(path):
    # Shapes only: what it is decides how the tensors are read, and a foreign file may be large.
    outline = load_plain(path, map_location='meta')
    if format_of(outline) == FORMAT:
        return _native(load_training_checkpoint(path), path)
    if format_of(outline) == INFERENCE_FORMAT:
        return _inference(load_inference_checkpoint(path), path)
    states = outline.get('state_dict') if isinstance(outline, dict) else None
    if isinstance(states, dict) and 'gen_model' in states:
        return _earlier_checkpoint(load_plain(path), path)
    raise CheckpointError(f'{path}: no checkpoint of this toolkit, nor of the earlier one (no state_dict.gen_model); '
                          f'{ACCEPTED}')


def _native(content, path):
    meta = content['meta']
    statistics = statistics_of(meta, path)
    activations = activations_in(record_of(meta), path)
    models = {}
    for weights in ('ema', 'raw'):
        if weights == 'raw' or content.get('ema_state_dict') is not None:
            config, state = select_weights(content, path, weights)
            models[weights] = TrainedModel(config, state, statistics, path, 'native', weights,
                                           {'iteration': meta.get('iteration'), **activations})
    others = {name: value for name, value in content['state_dict'].items() if not name.startswith('autoencoder.')}
    return ModelFile(models, others)


def _inference(content, path):
    meta = content['meta']
    try:
        config = json.loads(meta['autoencoder'])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: no readable config of its autoencoder in meta ({error})') from None
    model = TrainedModel(config, content['weights'], statistics_of(meta, path), path, 'inference', meta['weights'],
                         {'iteration': meta.get('iteration'), **activations_in(record_of(meta), path)})
    return ModelFile({meta['weights']: model})


def _read_folder(folder, weights_path=None):
    if not (folder / CONFIG_NAME).is_file():
        inside = next((name for name in ('vae', 'checkpoints') if (folder / name).is_dir()), None)
        raise CheckpointError(f'{folder}: no iter_N.pth and no {CONFIG_NAME} in it; {ACCEPTED}'
                              + (f' (try {folder / inside})' if inside else ''))
    config_path = folder / CONFIG_NAME
    settings = read_config(config_path)
    name = settings.get('_class_name')
    earlier_run = sorted(folder.glob('*.ckpt'))
    if weights_path is None and earlier_run and not any(folder.glob('*.safetensors*')):
        raise CheckpointError(f'{folder}: holds earlier checkpoints; name one, such as {earlier_run[-1]}')
    if name not in (*CLASSES, *_DIFFUSERS):
        raise CheckpointError(f'{config_path}: of a {name or "model without _class_name"}; read are '
                              f'{", ".join((*CLASSES, *_DIFFUSERS))}; {ACCEPTED}')
    state = read_weights(weights_path or find_weights(folder))
    if name in CLASSES:
        config, statistics, _ = from_earlier_settings(settings, config_path)
        model = TrainedModel(config, _renamed(state, folder), statistics, folder, 'earlier folder', 'ema',
                             {'class': name})
    else:
        config, statistics = from_diffusers_settings(settings, config_path)
        state = state if name == EXPORTED_CLASS else rename_old_attention(state)
        record = read_config(folder / RECORD_NAME) if (folder / RECORD_NAME).is_file() else {}
        model = TrainedModel(config, state, statistics, folder, 'diffusers', 'ema',
                             {'class': name, **activations_in(record, folder / RECORD_NAME)})
    return ModelFile({'ema': model})


def _earlier_checkpoint(content, path):
    config_path = path.with_name(CONFIG_NAME)
    if not config_path.is_file():
        raise CheckpointError(f'{path}: an earlier checkpoint, which does not say its settings; put its config.json '
                              'beside it')
    settings = read_config(config_path)
    if (settings.get('_class_name') or CLASSES[0]) not in CLASSES:
        raise CheckpointError(f'{config_path}: of a {settings["_class_name"]}; {" or ".join(CLASSES)} is read beside '
                              'a .ckpt')
    config, statistics, name = from_earlier_settings(settings, config_path)
    meta = {'class': name, 'iteration': content.get('current_step')}
    if not settings.get('_class_name'):
        meta['class_from'] = 'settings'
    states = {'raw': _renamed(content['state_dict']['gen_model'], path)}
    averaged = content.get('ema_state_dict')
    if averaged:
        averaged = _renamed(averaged, path)
        if not any(key.startswith('encoder.') for key in averaged):
            # A frozen encoder was never averaged: gen_model holds the only one there is.
            meta['encoder_from'] = 'gen_model'
            averaged |= {key: value for key, value in states['raw'].items() if key.startswith('encoder.')}
        states = {'ema': averaged, **states}
    return ModelFile({weights: TrainedModel(config, state, statistics, path, 'earlier checkpoint', weights, meta)
                      for weights, state in states.items()})


def _renamed(state, path):
    """Earlier state dict, with or without ``module.`` before its keys -> ours."""
    if not isinstance(state, dict) or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise CheckpointError(f'{path}: its weights are no dict of tensors')
    try:
        return convert_earlier_state({key.removeprefix('module.'): value for key, value in state.items()},
                                     'autoencoder')
    except ValueError as error:
        raise CheckpointError(f'{path}: {error}') from None
