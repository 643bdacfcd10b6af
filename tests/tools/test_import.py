"""A model of a part that is importable but not installed, in every tool that takes a MODEL."""

import sys

import pytest

from wfvae_toolkit.checkpoints import TrainedModel, export_model
from wfvae_toolkit.registry import AUTOENCODERS, WAVELETS

SOURCE = '''
from wfvae_toolkit.models.wavelets import Haar
from wfvae_toolkit.registry import WAVELETS

@WAVELETS.register_module()
class UninstalledHaar(Haar):
    pass
'''
CONFIG = dict(type='WFVAE2Image', latent_channels=3, widths=(8, 12), flow_width=4, wavelet=dict(type='UninstalledHaar'))


def forget():
    WAVELETS.module_dict.pop('UninstalledHaar', None)
    sys.modules.pop('uninstalled_part', None)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A file whose wavelet nothing has registered yet; ``uninstalled_part`` would."""
    (tmp_path / 'code').mkdir()
    (tmp_path / 'code/uninstalled_part.py').write_text(SOURCE, encoding='utf-8')
    monkeypatch.syspath_prepend(tmp_path / 'code')
    __import__('uninstalled_part')
    state = AUTOENCODERS.build(CONFIG).state_dict()
    path, = export_model(TrainedModel(CONFIG, state, None, tmp_path, 'native', 'ema'), tmp_path / 'model.pth', 'native')
    forget()
    yield path
    forget()


COMMANDS = {
    'reconstruct': lambda model, data, out: (model, data, out, '--workers', 0),
    'measure_latents': lambda model, data, out: (model, data, '--workers', 0),
    'cache_latents': lambda model, data, out: (model, data, out, '--crop', 16, '--workers', 0),
    'convert': lambda model, data, out: (model, f'{out}.pth', '--to', 'native'),
    'merge': lambda model, data, out: (f'{out}.pth', '--encoder', model, '--decoder', model)}


@pytest.mark.parametrize('name', list(COMMANDS))
def test_every_tool_finds_the_part_of_an_imported_module(tool, model, photos, tmp_path, name):
    arguments = COMMANDS[name](model, photos / 'val', tmp_path / 'out')
    with pytest.raises(SystemExit, match="type 'UninstalledHaar', which no registry holds; .* take --import MODULE"):
        tool(name)(*arguments)
    tool(name)(*arguments, '--import', 'uninstalled_part')


@pytest.mark.parametrize('module', ['no_such_part', 'json.nope', '.part', ''])
def test_a_module_that_cannot_be_imported_is_named(tool, model, tmp_path, module):
    with pytest.raises(SystemExit, match=rf'error: --import {module}: .*; put its folder on PYTHONPATH'):
        tool('convert')(*COMMANDS['convert'](model, None, tmp_path / 'out'), '--import', module)
