"""A trained model as two files of ``torch.export`` or of AOTInductor, which torch loads without the toolkit."""

import traceback
import warnings
from pathlib import Path

import torch

from wfvae_toolkit.utils.errors import MissingLibrary
from wfvae_toolkit.utils.files import atomic_folder, write_json

from .halves import compare_halves, describe_halves, make_halves
from .to_diffusers import check_exportable
from .trained import CheckpointError


def write_torch_export(model, output):
    """``encoder.pt2``, ``decoder.pt2`` and ``config.json`` for ``torch.export.load``; loaded again and compared.

    ``encoder.pt2``: (B, 3, H, W) in [-1, 1] -> a tuple of the posterior's mean and, of GaussianPosterior, its logvar,
    raw latents (B, C, H/f, W/f). ``decoder.pt2``: raw latents -> (B, 3, f*h, f*w). Any batch, height and width; H and W
    must be multiples of f, or the loaded program raises an AssertionError (RuntimeError in torch 2.6). torch 2.13 also
    refuses pictures of less than 2f.

    Args:
        model (TrainedModel): of a WFVAE2Image.
        output (str | Path): the folder. The paths of its files are returned.

    Raises:
        SettingError: another autoencoder.
        CheckpointError: a part that cannot be exported, or a loaded program refuses sizes other than the traced one or
            gives other results (over 1e-4); the message names them.
    """
    check_exportable(model, 'torch_export')
    return _write(model, output, torch.export.save, lambda path: torch.export.load(path).module())


def write_aot_inductor(model, output):
    """The same files, compiled for this machine's CPU, for ``torch._inductor.aoti_load_package``.

    A compiled program checks dtype, channels and layout of its input only where the environment has
    ``AOTI_RUNTIME_CHECK_INPUTS=1``; without it, a tensor that is not contiguous gives wrong results. It never checks
    that f divides H and W.

    Args, Raises: as `write_torch_export`, and

        MissingLibrary: no C++ compiler.
    """
    check_exportable(model, 'aot_inductor')
    _check_compiler()
    return _write(model, output, _compile, lambda path: torch._inductor.aoti_load_package(str(path)))


def _write(model, output, save, load):
    autoencoder = model.build()
    with atomic_folder(output) as folder:
        runners = []
        for half in make_halves(autoencoder):
            path = folder / f'{half.name}.pt2'
            program = _trace(half)
            with warnings.catch_warnings():
                # channels-last weights are "not complete" to torch 2.13, which writes and reads them all the same.
                warnings.filterwarnings('ignore', 'No complete tensor found')
                save(program, path)
            runners.append(_runner(load(path), path))
        compare_halves(autoencoder, *runners, folder)
        write_json(folder / 'config.json', {**describe_halves(model, autoencoder), 'torch_version': torch.__version__})
    return [Path(output) / name for name in ('config.json', 'decoder.pt2', 'encoder.pt2')]


def _trace(half):
    """`Half` -> torch.export.ExportedProgram; CheckpointError names the part that cannot be traced."""
    try:
        with torch.no_grad():
            # Not strict, as newer versions of torch by default: Python runs the layers, so an error shows its place.
            return torch.export.export(half.network, (half.argument,), strict=False,
                                       dynamic_shapes={half.argument_name: half.dynamic})
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f'{_part_of(error, half)} cannot be exported by torch.export: {_first_line(error)}'
                              ) from error


def _part_of(error, half):
    """'encoder.mid.1 (SpatialAttention)': the innermost module in which an error arose."""
    names = {id(module): (name, type(module).__name__) for name, module in half.network.named_modules() if name}
    found = (half.name, type(getattr(half.network, half.name)).__name__)
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            found = names.get(id(frame.f_locals.get('self')), found)
        error = error.__cause__
    return f'{found[0]} ({found[1]})'


def _first_line(error):
    return next((line for line in map(str.strip, str(error).splitlines()) if line), type(error).__name__)


def _check_compiler():
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise MissingLibrary('--to aot_inductor needs a C++ compiler, and none was found: install g++, or name one in '
                             'the environment variable CXX') from None


def _compile(program, path):
    from torch._inductor import config

    # The program's own check of its input, which users may switch on, then admits a batch of 1.
    settings = {'aot_inductor.check_lowerbound': False} if hasattr(config.aot_inductor, 'check_lowerbound') else {}
    try:
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    except RuntimeError as error:
        raise CheckpointError(f'AOTInductor cannot compile the {path.stem}: {_first_line(error)}') from error


def _runner(network, path):
    """A tensor -> list of the tensors that a loaded program gives; CheckpointError if it refuses them."""

    def run(tensor):
        try:
            with torch.inference_mode():
                results = network(tensor)
        except (AssertionError, RuntimeError) as error:
            raise CheckpointError(f'the written {path.stem} refuses {tuple(tensor.shape)}: {_first_line(error)}'
                                  ) from error
        return [results] if isinstance(results, torch.Tensor) else list(results)

    return run
