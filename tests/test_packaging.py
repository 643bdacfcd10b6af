import ast
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_setup_cfg_lists_every_package():
    """A folder that setup.cfg forgets is missing from the wheel only, where no other test would see it."""
    setup = ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    homes = {'wfvae_toolkit': '', 'tools': 'wfvae_toolkit.'}
    folders = {homes[home] + '.'.join(path.parent.relative_to(ROOT).parts)
               for home in homes for path in (ROOT / home).rglob('*.py')}
    # Its subfolders are package data.
    assert set(setup['options']['packages'].split()) == folders | {'wfvae_toolkit.configs'}


def test_version_is_read_without_importing_the_package():
    source = ast.parse((ROOT / 'wfvae_toolkit/__init__.py').read_text(encoding='utf-8'))
    assert any(isinstance(node, ast.Assign) and node.targets[0].id == '__version__'
               and isinstance(node.value, ast.Constant) for node in source.body)
