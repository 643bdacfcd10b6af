"""Parts from other packages, which the entry-point group ``wfvae_toolkit.plugins`` announces.

If the metadata of a package holds ::

    [project.entry-points."wfvae_toolkit.plugins"]
    my_parts = "my_package.parts"

the toolkit imports that module before it reads a config; the module registers its parts.
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

    A module that fails gives a warning with its name and error; the others are imported all the same.

    Raises:
        NameClash: a module registers a name that is taken. The part that a config gets would depend on their order.
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
    """Import modules that register parts but are not announced by a package.

    Raises:
        MissingLibrary: a module cannot be imported; the message gives its name and the reason.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except (ImportError, ValueError, TypeError) as error:  # the latter two of names such as '' and '.parts'
            raise MissingLibrary(f'--import {name}: {error}; put its folder on PYTHONPATH, or install its '
                                 'package') from error


def place_of(part):
    """``file:line`` of a class or function; the name of its module if there is no source."""
    try:
        return f'{inspect.getsourcefile(part)}:{inspect.getsourcelines(part)[1]}'
    except (OSError, TypeError):  # typed in at a prompt, or written in C
        return part.__module__
