"""The projects as packages that a test may import."""

import importlib
import sys
from pathlib import Path

import pytest

from wfvae_toolkit.registry import BY_NAME

PROJECTS = Path(__file__).resolve().parents[2] / 'projects'


@pytest.fixture
def import_project(monkeypatch):
    """'eq_vae' -> the package of projects/eq_vae; after the test every project, and what it registered, is gone.

    A config may import a second project, so the modules say by their files what goes, not the names that a test gave.
    """
    def load(name):
        monkeypatch.syspath_prepend(PROJECTS / name)
        return importlib.import_module(name)
    yield load
    ours = {name for name, module in sys.modules.items()
            if PROJECTS in Path(getattr(module, '__file__', None) or '').parents}
    for registry in BY_NAME.values():
        for name in [name for name, part in registry.module_dict.items() if part.__module__ in ours]:
            del registry.module_dict[name]
    for name in ours:
        del sys.modules[name]
