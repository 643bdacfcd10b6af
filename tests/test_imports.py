"""What is installed with the toolkit is all that it imports."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# It stands on a package of an extra, and says so.
NEEDS_EXTRA = {'wfvae_toolkit.models.diffusers_model':
               "MissingLibrary: diffusers is not installed: pip install 'wfvae_toolkit[diffusers]'"}

# Imports every module named on stdin, in an interpreter that refuses the packages named there.
IMPORT_ALL = '''
import importlib, importlib.util, json, sys

names, tools, refused = json.load(sys.stdin)
# torch looks for some of them: to find_spec they are missing too.
sys.modules.update(dict.fromkeys(refused))
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = f'{type(error).__name__}: {error}'
for number, path in enumerate(tools):
    try:
        spec = importlib.util.spec_from_file_location(f'tool_{number}', path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        failed[path] = f'{type(error).__name__}: {error}'
print(json.dumps([failed, [name for name in refused if sys.modules[name]], len(sys.modules)]))
'''


def modules():
    """Dotted names of all modules of the package."""
    paths = sorted((ROOT / 'wfvae_toolkit').rglob('*.py'))
    return ['.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__') for path in paths]


def tools():
    return [str(path) for path in sorted((ROOT / 'tools').rglob('*.py'))]


def canonical(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def required(names):
    """Distributions that pip installs for ``names``, as far as they are here; markers of extras left out."""
    from packaging.requirements import Requirement

    found, pending = set(), list(names)
    while pending:
        name = canonical(pending.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requirements = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            continue
        parsed = map(Requirement, requirements)
        pending += [one.name for one in parsed if one.marker is None or one.marker.evaluate({'extra': ''})]
    return found


def runtime_requirements():
    """Names of distributions; with MMEngine's fork in its place under `make test-fork`."""
    lines = [line for name in ('runtime', 'fork')
             for line in (ROOT / f'requirements/{name}.txt').read_text(encoding='utf-8').splitlines()]
    return [re.match(r'[\w.-]+', line)[0] for line in lines if line and not line.startswith('#')]


@pytest.fixture(scope='module')
def foreign():
    """Top-level modules of installed packages that the toolkit does not require."""
    allowed = required(runtime_requirements())
    return sorted(name for name, owners in metadata.packages_distributions().items()
                  if not allowed & set(map(canonical, owners)) and name != 'wfvae_toolkit')


def test_the_refused_packages_are_those_of_tests_and_demo(foreign):
    assert {'pytest', 'skimage', 'sklearn', 'coverage'} <= set(foreign)
    assert not {'torch', 'numpy', 'mmengine', 'lpips', 'scipy', 'PIL', 'matplotlib', 'cv2', 'yaml'} & set(foreign)


def test_every_module_and_tool_imports_with_the_runtime_requirements(launch, foreign, tmp_path):
    request = tmp_path / 'request.json'
    request.write_text(json.dumps([modules(), tools(), foreign]), encoding='utf-8')
    done = launch('bash', '-c', f'{sys.executable} -c "$0" < {request}', IMPORT_ALL, cwd=tmp_path)
    failed, loaded, count = json.loads(done.stdout.splitlines()[-1])
    assert failed == NEEDS_EXTRA
    assert loaded == []
    assert count > 500 + len(foreign)


def test_a_refused_package_would_be_noticed(launch, tmp_path):
    request = tmp_path / 'request.json'
    request.write_text(json.dumps([['wfvae_toolkit.models.posterior'], [], ['torch']]), encoding='utf-8')
    done = launch('bash', '-c', f'{sys.executable} -c "$0" < {request}', IMPORT_ALL, cwd=tmp_path)
    failed, _, _ = json.loads(done.stdout.splitlines()[-1])
    assert 'import of torch halted' in failed['wfvae_toolkit.models.posterior']


@pytest.mark.slow
def test_every_module_and_tool_imports_in_an_environment_of_the_runtime_requirements(launch, tmp_path):
    launch(sys.executable, '-m', 'venv', tmp_path / 'venv')
    python = tmp_path / 'venv/bin/python'
    launch(python, '-m', 'pip', 'install', '-q', '-r', ROOT / 'requirements/runtime.txt', '-c',
           ROOT / 'requirements/constraints.txt')
    request = tmp_path / 'request.json'
    request.write_text(json.dumps([modules(), tools(), []]), encoding='utf-8')
    done = launch('bash', '-c', f'{python} -c "$0" < {request}', IMPORT_ALL, cwd=tmp_path)
    assert json.loads(done.stdout.splitlines()[-1])[0] == NEEDS_EXTRA
