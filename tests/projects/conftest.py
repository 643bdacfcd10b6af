"""The projects as packages that a test may import."""

import importlib
import sys
from pathlib import Path

import pytest

from wfvae_toolkit.registry import LOSSES

PROJECTS = Path(__file__).resolve().parents[2] / 'projects'


@pytest.fixture
def import_project(monkeypatch):
    """'eq_vae' -> the package of projects/eq_vae; after the test it and the losses that it registered are gone."""
    names, before = [], set(LOSSES.module_dict)

    def load(name):
        monkeypatch.syspath_prepend(PROJECTS / name)
        names.append(name)
        return importlib.import_module(name)
    yield load
    for loss in set(LOSSES.module_dict) - before:
        if LOSSES.module_dict[loss].__module__.partition('.')[0] in names:
            del LOSSES.module_dict[loss]
    for module in [module for module in sys.modules if module.partition('.')[0] in names]:
        del sys.modules[module]
