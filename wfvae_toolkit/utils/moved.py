"""Old import paths: a moved module raises an error that names its new path; a moved name that users rely on works.

The new module is imported only on access: a package must not import from a higher floor than its own.
"""

import importlib
import sys

# Old path -> new path, for modules that no page of docs/ and no saved file names.
MODULES = {
    'wfvae_toolkit.checkpoints.inference': 'wfvae_toolkit.checkpoints.native',
    'wfvae_toolkit.checkpoints.statistics': 'wfvae_toolkit.checkpoints.write_statistics',
    'wfvae_toolkit.datasets.cached_latents': 'wfvae_toolkit.latents.dataset',
    'wfvae_toolkit.datasets.latent_index': 'wfvae_toolkit.latents.index',
    'wfvae_toolkit.evaluation.latents': 'wfvae_toolkit.evaluation.latent_metrics',
    'wfvae_toolkit.inference.evaluation': 'wfvae_toolkit.evaluation.checkpoint',
    'wfvae_toolkit.inference.latent_cache': 'wfvae_toolkit.latents.write_cache',
    'wfvae_toolkit.inference.measurement': 'wfvae_toolkit.latents.measure',
    'wfvae_toolkit.models.latents': 'wfvae_toolkit.models.latent_statistics',
    'wfvae_toolkit.training.distillation': 'wfvae_toolkit.losses.distillation',
    'wfvae_toolkit.utils.pictures': 'wfvae_toolkit.visualization.pictures',
}


class _MovedModules:
    """An import finder that Python asks last, after it found no module of that name."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f'{name} has moved: import {MODULES[name]}', name=name)


def report_moved_modules():
    """Importing a moved module then raises a ModuleNotFoundError that names the new path."""
    if _MovedModules not in sys.meta_path:
        sys.meta_path.append(_MovedModules)


def moved_names(package, names):
    """A module's ``__getattr__`` under which names that moved to another package keep working.

    Args:
        package (str): dotted name of the package that held them.
        names (dict[str, str]): name -> dotted name of the package that holds it now.

    Returns:
        callable: name -> object. It raises AttributeError for every other name.
    """
    def get(name):
        if name in names:
            return getattr(importlib.import_module(names[name]), name)
        raise AttributeError(f'module {package!r} has no attribute {name!r}')
    return get
