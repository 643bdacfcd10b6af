"""Import torchvision and packages that use it, even if its compiled part does not fit the installed torch.

A CUDA build of torchvision with a CPU build of torch cannot load its operators. The first line that registers one for
torch's compiler then stops the import. Models, transforms and image files need none of these operators.
"""

import importlib
import importlib.util
import sys

import torch

from .errors import import_extra

_MISSING_OPERATOR = 'operator torchvision::nms does not exist'
_SCHEMAS = (
    'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
)
_libraries = []  # a schema lives as long as the Library that defined it


def import_torchvision():
    """The torchvision package. If its operators cannot be loaded, a call of one fails, but the import works.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        return _import('torchvision')
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition('.')[0] == 'torchvision']:
        del sys.modules[name]
    _define_operators()
    return _import('torchvision')


def import_lpips():
    """The lpips package, which imports torchvision.

    Raises:
        ImportError: lpips or torchvision is not installed.
    """
    import_torchvision()
    return _import('lpips')


def import_diffusers():
    """The diffusers package, which imports torchvision if it is installed.

    Raises:
        MissingLibrary: diffusers is not installed.
    """
    import_torchvision()
    return import_extra('diffusers')


def import_transformers():
    """The transformers package, whose models import torchvision if it is installed.

    Raises:
        MissingLibrary: transformers is not installed.
    """
    if importlib.util.find_spec('torchvision') is not None:
        import_torchvision()
    return import_extra('transformers')


def import_torch_fidelity(module):
    """A module of torch-fidelity, which imports torchvision.

    Raises:
        MissingLibrary: torch-fidelity is not installed.
    """
    import_torchvision()
    import_extra('torch_fidelity', 'fid')
    return importlib.import_module(f'torch_fidelity.{module}')


def _import(package):
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f'{package} is not installed: pip install {package}', name=package) from error


def _define_operators():
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
