import ast
import inspect
import sys
from pathlib import Path

import pytest

import wfvae_toolkit
from wfvae_toolkit import registry as registries
from wfvae_toolkit.analysis.parts import format_parts, list_parts
from wfvae_toolkit.registry import BY_NAME, DOWNSAMPLERS, UPSAMPLERS, WAVELETS
from wfvae_toolkit.utils.errors import MissingLibrary, UnknownName
from wfvae_toolkit.utils.plugins import GROUP, load_plugins

PACKAGE = Path(wfvae_toolkit.__file__).parent
WAVELET = ('from wfvae_toolkit.models.wavelets import Haar\n'
           'from wfvae_toolkit.registry import WAVELETS\n\n'
           '@WAVELETS.register_module(force=True)\n'
           'class WaveletOfElsewhere(Haar):\n'
           '    """Purpose in a line.\n\n    And more."""\n\n'
           '    def __init__(self, order, name="a"):\n'
           '        super().__init__()\n')


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A module beside the toolkit that registers a wavelet; its name."""
    (tmp_path / 'parts_of_elsewhere.py').write_text(WAVELET)
    monkeypatch.syspath_prepend(tmp_path)
    yield 'parts_of_elsewhere'
    WAVELETS.module_dict.pop('WaveletOfElsewhere', None)
    sys.modules.pop('parts_of_elsewhere', None)
    load_plugins.cache_clear()


def find(parts, name):
    part, = (part for part in parts if part.name == name)
    return part


def test_every_registered_part_is_listed_once():
    parts = list_parts()
    for name, registry in BY_NAME.items():
        listed = [part.name for part in parts if part.registry == name and not part.inherited]
        assert listed == sorted(registry.module_dict)
    places = [(part.registry, part.name) for part in parts]
    assert len(places) == len(set(places))


def test_ours_all_have_a_purpose_and_our_version():
    own = [part for part in list_parts() if part.module.startswith('wfvae_toolkit.')]
    assert len(own) > 30
    for part in own:
        assert part.description, part
        assert (part.package, part.version) == ('wfvae_toolkit', wfvae_toolkit.__version__)


def test_settings_are_what_a_config_may_give():
    part = find(list_parts('mid block'), 'ResidualBlock')
    cls = BY_NAME['mid block'].get('ResidualBlock')
    assert set(part.settings) == set(inspect.signature(cls).parameters) - {'channels', 'norm', 'out_channels'}
    assert part.settings['dropout'] == '0.0'
    wavelet = find(list_parts('wavelet'), 'DiscreteWavelet')
    assert wavelet.settings['name'] is None  # must be given


def test_context_is_what_owners_pass():
    """The keywords of every ``REGISTRY.build(cfg, keyword=...)`` of the package."""
    constants = {name: value for name, value in vars(registries).items() if value in BY_NAME.values()}
    passed = {}
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == 'build'
                    and isinstance(node.func.value, ast.Name) and node.func.value.id in constants):
                name = constants[node.func.value.id].name
                passed.setdefault(name, set()).update(keyword.arg for keyword in node.keywords if keyword.arg)
    assert {name for name, keywords in passed.items() if keywords} >= {DOWNSAMPLERS.name, UPSAMPLERS.name}
    for name, keywords in passed.items():
        assert keywords <= {*BY_NAME[name].context, *BY_NAME[name].offers}, name


@pytest.mark.parametrize('name', ['mid block', 'MID_BLOCKS'])
def test_one_registry_by_its_name_or_constant(name):
    assert {part.registry for part in list_parts(name)} == {'mid block'}


def test_unknown_registry_lists_the_known():
    with pytest.raises(UnknownName, match="no registry is called 'losss'; there are: autoencoder, posterior, "):
        list_parts('losss')


def test_parts_of_an_imported_module(elsewhere, tmp_path):
    part = find(list_parts('wavelet', imports=[elsewhere]), 'WaveletOfElsewhere')
    assert part.settings == {'order': None, 'name': "'a'"}
    assert (part.package, part.version, part.description) == (elsewhere, 'not installed', 'Purpose in a line.')
    assert part.place == f'{tmp_path}/parts_of_elsewhere.py:4'
    assert f'  WaveletOfElsewhere  {part.place}  parts_of_elsewhere' in format_parts([part])
    with pytest.raises(MissingLibrary, match='--import no_such_module: '):
        list_parts(imports=['no_such_module'])


def test_a_plug_in_is_named_with_its_version(elsewhere, tmp_path):
    info = tmp_path / 'my_wavelets-2.5.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: my-wavelets\nVersion: 2.5\n')
    (info / 'entry_points.txt').write_text(f'[{GROUP}]\nmine = {elsewhere}\n')
    load_plugins.cache_clear()
    part = find(list_parts('wavelet'), 'WaveletOfElsewhere')
    assert (part.package, part.version, part.module) == ('my-wavelets', '2.5', elsewhere)


def test_parts_of_mmengine_are_found_and_told_apart():
    adam = find(list_parts('optimizer'), 'AdamW')
    assert adam.inherited
    assert adam.package == 'torch'
    assert 'lr' in adam.settings
    text = format_parts(list_parts('optimizer'))
    assert ' through MMEngine: ' in text
    assert 'AdamW' in text


def test_text_is_aligned():
    parts = list_parts()
    origin = f' wfvae_toolkit {wfvae_toolkit.__version__} '
    rows = [line for line in format_parts(parts).splitlines() if origin in line]
    assert len(rows) == sum(part.package == 'wfvae_toolkit' for part in parts)
    assert len({(line.index(origin), line.rindex(' wfvae_toolkit.')) for line in rows}) == 1
