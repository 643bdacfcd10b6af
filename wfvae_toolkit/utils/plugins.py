"""Parts from other packages, announced by the entry-point group ``wfvae_toolkit.plugins``.

A package whose metadata holds ::

    [project.entry-points."wfvae_toolkit.plugins"]
    my_parts = "my_package.parts"

has that module imported before a config is read; the module registers its parts.
"""

import functools
import importlib
import inspect
import warnings
from importlib import metadata

from .errors import MissingLibrary, NameClash

GROUP = 'wfvae_toolkit.plugins'


@functools.cache
def load_plugins():
    """Import every announced module once; returns the names of those that worked.

    One that fails is reported by name with its error and does not stop the others.

    Raises:
        NameClash: one registers a name that is taken: which part a config meant would depend on their order.
    """
    loaded = []
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except NameClash as error:
            raise NameClash(f'plug-in {entry.name} ({entry.value}): {error}') from error
        except Exception as error:  # noqa: BLE001 - whatever a stranger's module raises
            warnings.warn(f'plug-in {entry.name} ({entry.value}) could not be imported: '
                          f'{type(error).__name__}: {error}', stacklevel=2)
        else:
            loaded.append(entry.name)
    return tuple(loaded)


def import_modules(names):
    """Import modules that register parts and that no package announces.

    Raises:
        MissingLibrary: one cannot be imported; the message names it and the reason.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except (ImportError, ValueError, TypeError) as error:  # the latter two of names such as '' and '.parts'
            raise MissingLibrary(f'--import {name}: {error}; put its folder on PYTHONPATH, or install its '
                                 'package') from error


def place_of(part):
    """``file:line`` of a class or function; its module's name where there is no source."""
    try:
        return f'{inspect.getsourcefile(part)}:{inspect.getsourcelines(part)[1]}'
    except (OSError, TypeError):  # typed in at a prompt, or written in C
        return part.__module__
