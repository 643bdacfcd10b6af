"""Old import paths: see `wfvae_toolkit/utils/moved.py`."""

import importlib
import importlib.util

import pytest

from wfvae_toolkit.utils.moved import MODULES, moved_names


@pytest.mark.parametrize('old', MODULES)
def test_a_moved_module_names_its_new_path(old):
    with pytest.raises(ModuleNotFoundError, match=f'{old} has moved: import {MODULES[old]}$'):
        importlib.import_module(old)
    assert importlib.util.find_spec(MODULES[old])


def test_other_missing_modules_are_reported_as_before():
    with pytest.raises(ModuleNotFoundError, match="No module named 'wfvae_toolkit.utils.nothing'"):
        importlib.import_module('wfvae_toolkit.utils.nothing')


@pytest.mark.parametrize('name', ['CachedLatents', 'LatentCacheError', 'LatentIndex'])
def test_latents_are_still_found_in_datasets(name):
    datasets, latents = (importlib.import_module(f'wfvae_toolkit.{package}') for package in ('datasets', 'latents'))
    assert name in datasets.__all__
    assert getattr(datasets, name) is getattr(latents, name)


def test_a_name_that_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'a.package' has no attribute 'other'"):
        moved_names('a.package', {'name': 'elsewhere'})('other')
