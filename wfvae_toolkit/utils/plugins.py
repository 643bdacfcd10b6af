"""Parts from other packages, announced by the entry-point group ``wfvae_toolkit.plugins``.

A package whose metadata holds ::

    [project.entry-points."wfvae_toolkit.plugins"]
    my_parts = "my_package.parts"

has that module imported before a config is read; the module registers its parts.
"""

import functools
import warnings
from importlib import metadata

GROUP = 'wfvae_toolkit.plugins'


@functools.cache
def load_plugins():
    """Import every announced module once; returns the names of those that worked.

    One that fails is reported by name with its error and does not stop the others.
    """
    loaded = []
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # noqa: BLE001 - whatever a stranger's module raises
            warnings.warn(f'plug-in {entry.name} ({entry.value}) could not be imported: '
                          f'{type(error).__name__}: {error}', stacklevel=2)
        else:
            loaded.append(entry.name)
    return tuple(loaded)
