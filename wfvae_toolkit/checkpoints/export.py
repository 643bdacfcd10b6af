"""Trained models written in the forms that others read."""

import inspect
import math
import re
from pathlib import Path

import torch

from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_folder, atomic_write

from .earlier import to_earlier
from .folders import write_folder
from .native import inference_content
from .read import read_model
from .settings import complete, difference
from .to_diffusers import write_diffusers
from .to_onnx import write_onnx
from .to_torch_export import write_aot_inductor, write_torch_export
from .trained import CheckpointError, check_weights

# What an exported folder may hold; --force replaces no other folder.
_EXPORTED_FILES = {'.json', '.safetensors', '.py', '.onnx', '.data', '.pt2', '.md'}


def write_native(model, output):
    """TrainedModel -> one inference checkpoint (.pth). Returns its path in a list."""
    output = Path(output)
    if output.suffix != '.pth' or re.fullmatch(r'iter_\d+', output.stem):
        raise SettingError(f'{output}: a native checkpoint is one file; name it NAME.pth, but not iter_N.pth, which a '
                           'run would take for its own')
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        torch.save(inference_content(model), file)
        file.flush()
        check_copy(model, file.name)
    return [output]


def write_earlier(model, output):
    """TrainedModel -> a folder of the earlier implementation. Returns the paths of its two files."""
    settings, state = to_earlier(model.config, model.state, model.statistics)
    with atomic_folder(output) as folder:
        names = [path.name for path in write_folder(folder, settings, state)]
        check_copy(model, folder)
    return [Path(output) / name for name in names]


EXPORTERS = {'native': write_native, 'earlier': write_earlier, 'diffusers': write_diffusers, 'onnx': write_onnx,
             'torch_export': write_torch_export, 'aot_inductor': write_aot_inductor}


def export_model(model, output, form, force=False, **options):
    """Write a TrainedModel in a form of ``EXPORTERS``; returns the paths written.

    Args:
        model (TrainedModel): of ``read_model``.
        output (str | Path): a file or a folder, as the form demands.
        form (str): key of ``EXPORTERS``.
        force (bool): replace a file, or a folder that holds an exported model and nothing else.
        options: further arguments of the form's function.

    Raises:
        SettingError: another form, or something is there that may not be replaced.
        CheckpointError: the form cannot express the model, a weight is NaN or infinite, or what was written does not
            read back as it.
    """
    output = Path(output).expanduser()
    if form not in EXPORTERS:
        raise SettingError(f'--to {form}: use one of {", ".join(EXPORTERS)}')
    if output.exists():
        if not force:
            raise SettingError(f'{output} exists; --force replaces it')
        if output.is_dir() and any(path.is_dir() or path.suffix not in _EXPORTED_FILES for path in output.iterdir()):
            raise SettingError(f'{output} holds more than an exported model; --force does not replace it')
        if output.is_dir() != (form != 'native'):
            raise SettingError(f'{output} is a {"folder" if output.is_dir() else "file"}, which --to {form} does not '
                               'write; give another OUTPUT')
    check_weights(model.state, model.path)
    try:
        inspect.signature(EXPORTERS[form]).bind(model, output, **options)
    except TypeError:
        raise SettingError(f'--to {form} has no {", ".join(options)}') from None
    return EXPORTERS[form](model, output, **options)


def check_copy(model, path):
    """CheckpointError unless ``path`` reads back as ``model``: equal settings, every tensor bit for bit.

    Statistics may differ in float64's last digit: a form that stores 1 / std cannot hold every std.
    """
    copy = read_model(path)
    channels = copy.build().latent_channels
    lost = difference(complete(copy.config), complete(model.config))
    lost += sorted(name for name in copy.state.keys() | model.state.keys()
                   if not _equal(copy.state.get(name), model.state.get(name)))
    numbers = []
    for one in (copy, model):
        statistics = one.statistics or LatentStatistics.identity(channels)
        numbers.append([*statistics.mean, *statistics.std])
    if not all(math.isclose(*pair, rel_tol=1e-15) for pair in zip(*numbers, strict=True)):
        lost.append('latent statistics')
    if lost:
        raise CheckpointError(f'{path}: what was written reads back differently: {", ".join(lost[:5])}')


def _equal(first, second):
    return first is not None and second is not None and first.dtype == second.dtype and torch.equal(first, second)
