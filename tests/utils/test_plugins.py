import sys

import pytest

from wfvae_toolkit.registry import WAVELETS
from wfvae_toolkit.utils.plugins import GROUP, load_plugins


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with its entry point where Python looks for installed ones."""
    monkeypatch.syspath_prepend(tmp_path)
    load_plugins.cache_clear()

    def make(name, source, value=None):
        module = f'plugin_of_{name}'
        if source is not None:
            (tmp_path / f'{module}.py').write_text(source)
        info = tmp_path / f'{name}-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text(f'[{GROUP}]\n{name} = {value or module}\n')
        return module

    yield make
    load_plugins.cache_clear()
    for module in [module for module in sys.modules if module.startswith('plugin_of_')]:
        del sys.modules[module]


REGISTERING = """
from wfvae_toolkit.models.wavelets import Haar
from wfvae_toolkit.registry import WAVELETS

@WAVELETS.register_module()
class {name}(Haar):
    pass
"""


def test_parts_of_an_installed_package_are_found_by_name(install):
    install('one', REGISTERING.format(name='WaveletOfAPlugin'))
    assert WAVELETS.get('WaveletOfAPlugin') is None
    try:
        assert 'one' in load_plugins()
        assert type(WAVELETS.build(dict(type='WaveletOfAPlugin'))).__name__ == 'WaveletOfAPlugin'
    finally:
        WAVELETS.module_dict.pop('WaveletOfAPlugin', None)


def test_each_is_imported_once(install):
    install('once', "import builtins\nbuiltins.count_of_once = getattr(builtins, 'count_of_once', 0) + 1\n")
    import builtins
    try:
        assert load_plugins() == load_plugins()
        assert builtins.count_of_once == 1
    finally:
        del builtins.count_of_once


@pytest.mark.parametrize(('source', 'value', 'message'), [
    ("raise RuntimeError('driver too old')", None, r'plug-in broken \(plugin_of_broken\) .*RuntimeError: driver too o'),
    ('import no_such_package', None, 'plug-in broken .*ModuleNotFoundError: .*no_such_package'),
    ('x = (', None, 'plug-in broken .*SyntaxError'),
    (None, None, 'plug-in broken .*ModuleNotFoundError: .*plugin_of_broken'),
    ('', 'plugin_of_broken:absent', r'plug-in broken \(plugin_of_broken:absent\) .*AttributeError: .*absent'),
])
def test_a_broken_one_is_named_and_does_not_stop_the_others(install, source, value, message):
    install('broken', source, value)
    install('whole', '')
    with pytest.warns(UserWarning, match=message):
        loaded = load_plugins()
    assert 'whole' in loaded
    assert 'broken' not in loaded


def test_plugins_are_loaded_before_a_config_is_read(install, tmp_path):
    from wfvae_toolkit.utils.config import load_config

    module = install('early', '')
    config = tmp_path / 'config.py'
    config.write_text(f"import sys\nthere = '{module}' in sys.modules\ndel sys\n")
    assert load_config(config).there
