import inspect
import sys
from pathlib import Path

import pytest

from wfvae_toolkit.models.wavelets import Haar
from wfvae_toolkit.registry import WAVELETS, find_part
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import MissingLibrary, NameClash, UnknownName
from wfvae_toolkit.utils.plugins import GROUP, load_plugins

ROOT = Path(__file__).resolve().parents[2]


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


def test_a_name_is_looked_for_in_plugins_without_a_config(install):
    """As a checkpoint's, read by a script."""
    install('late', REGISTERING.format(name='WaveletOfALatePlugin'))
    try:
        assert type(WAVELETS.build(dict(type='WaveletOfALatePlugin'))).__name__ == 'WaveletOfALatePlugin'
    finally:
        WAVELETS.module_dict.pop('WaveletOfALatePlugin', None)


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
    module = install('early', '')
    config = tmp_path / 'config.py'
    config.write_text(f"import sys\nwork_dir = str('{module}' in sys.modules)\n")
    assert load_config(config).work_dir == 'True'


# clashes

def test_a_clash_shows_both_places(install, tmp_path):
    for name in ('first', 'second'):
        install(name, REGISTERING.format(name='WaveletOfTwo'))
    try:
        with pytest.raises(NameClash) as caught:
            load_plugins()
    finally:
        WAVELETS.module_dict.pop('WaveletOfTwo', None)
    message = str(caught.value)
    assert message.startswith('plug-in ')
    assert "two parts of the registry 'wavelet' are called 'WaveletOfTwo'" in message
    assert all(f'{tmp_path}/plugin_of_{name}.py:5' in message for name in ('first', 'second'))


OUR_NAME = """
from wfvae_toolkit.registry import WAVELETS

@WAVELETS.register_module({settings})
class Haar:
    pass
"""


def test_our_names_are_taken_before_ours_are_imported(launch, install, tmp_path):
    install('stranger', OUR_NAME.format(settings=''))
    code = 'from wfvae_toolkit.utils.plugins import load_plugins; load_plugins()'
    done = launch(sys.executable, '-c', code, check=False, env={'PYTHONPATH': f'{tmp_path}:{ROOT}'})
    assert f'wavelets.py:{inspect.getsourcelines(Haar)[1]} and {tmp_path}/plugin_of_stranger.py:4' in done.stderr


def test_a_tool_ends_with_the_clash_alone(launch, install, tmp_path):
    install('stranger', OUR_NAME.format(settings=''))
    done = launch(sys.executable, 'tools/analysis_tools/print_config.py', 'wfvae_toolkit::wfvae2_demo.py', check=False,
                  env={'PYTHONPATH': f'{tmp_path}:{ROOT}'})
    assert done.returncode == 1
    assert done.stderr.startswith('error: plug-in stranger (plugin_of_stranger): two parts of the registry')


def test_replacing_one_of_ours_is_said_with_force(install):
    install('stranger', OUR_NAME.format(settings='force=True'))
    try:
        load_plugins()
        assert WAVELETS.get('Haar').__module__ == 'plugin_of_stranger'
    finally:
        WAVELETS.register_module(module=Haar, force=True)


# errors of the other two ways

@pytest.mark.parametrize(('source', 'message'), [
    ('import no_such_package', "No module named 'no_such_package'"),
    ('', "module 'plugin_of_dots' has no attribute 'Wavelet'"),
    (None, "No module named 'plugin_of_dots'"),
])
def test_a_dotted_path_that_leads_nowhere_says_why(install, source, message):
    module = install('dots', source, value='json')
    with pytest.raises(UnknownName, match=f"wavelet '{module}.Wavelet': {message}"):
        find_part(f'{module}.Wavelet', WAVELETS)


def test_a_custom_import_that_fails_says_why(install, tmp_path):
    module = install('custom', 'import no_such_package', value='json')
    (tmp_path / 'config.py').write_text(f'custom_imports = dict(imports={module!r})\n')
    with pytest.raises(MissingLibrary, match=f"custom_imports: Failed to import {module}: No module named 'no_such_p"):
        load_config(tmp_path / 'config.py')
