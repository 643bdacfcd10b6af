"""The architecture: a folder of wfvae_toolkit imports only from floors below its own, or from itself."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'wfvae_toolkit'
FLOORS = {
    'registry': 0, 'schema': 0, 'utils': 0,
    'models': 1, 'datasets': 1, 'visualization': 1,
    'checkpoints': 2,
    'losses': 3,
    'evaluation': 4,
    'inference': 5, 'latents': 5, 'report': 5, 'training': 5,
    'app': 6, 'hooks': 6, 'analysis': 6}


def imported_modules(source, package):
    """Dotted names of all modules that ``source``, a module in ``package``, imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split('.')[:len(package.split('.')) - node.level + 1] if node.level else []
            base = '.'.join([*parents, *filter(None, [node.module])])
            # `from package import name`: the name may be a module too.
            yield from (f'{base}.{alias.name}' for alias in node.names)


def violations(source, package, part):
    """Imports of the toolkit in ``source`` that the floor of its ``part`` forbids."""
    for module in imported_modules(source, package):
        root, *names = module.split('.')
        # `from wfvae_toolkit import __version__` reaches no part.
        if root != PACKAGE.name or not names or names[0].startswith('__') or names[0] == part:
            continue
        floor = FLOORS.get(names[0], 99)
        # registry.py and utils/ are one floor and one part.
        if floor >= FLOORS[part] and not floor == FLOORS[part] == 0:
            yield f'{part} (floor {FLOORS[part]}) imports {module} (floor {FLOORS.get(names[0], "unknown")})'


def files():
    return sorted(path for path in PACKAGE.rglob('*.py') if path.parent != PACKAGE or path.stem != '__init__')


@pytest.mark.parametrize('path', files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_come_from_lower_floors(path):
    part, *_ = path.relative_to(PACKAGE).with_suffix('').parts
    package = '.'.join(path.parent.relative_to(PACKAGE.parent).parts)
    assert part in FLOORS, f'{part}: give it a floor in {Path(__file__).name}'
    assert not list(violations(path.read_text(encoding='utf-8'), package, part))


@pytest.mark.parametrize('source', [
    'import wfvae_toolkit.hooks.ema',
    'import torch, wfvae_toolkit.training as t',
    'from wfvae_toolkit import inference',
    'from wfvae_toolkit.evaluation.psnr import psnr',  # its own floor, another folder
    'from ..hooks import ema',
    'from ... import training',
    'from wfvae_toolkit.not_on_any_floor import x',
    'def late():\n    from wfvae_toolkit.training.loop import Loop',
])
def test_rule_refuses(source):
    # As if in wfvae_toolkit/losses/rows/x.py for the three-dot line, wfvae_toolkit/losses/x.py for the others.
    package = 'wfvae_toolkit.losses.rows' if '...' in source else 'wfvae_toolkit.losses'
    assert list(violations(source, package, 'losses'))


def test_rule_accepts_lower_floors_itself_and_others():
    source = ('import torch\n'
              'from wfvae_toolkit import __version__, models\n'
              'from wfvae_toolkit.registry import LOSSES\n'
              'from wfvae_toolkit.losses.base import Loss\n'
              'from . import base\n'
              'from .base import Loss\n'
              'from ..utils.files import atomic_write\n')
    assert not list(violations(source, 'wfvae_toolkit.losses', 'losses'))
