"""A lower bound in requirements/ is a version that the tests have run with."""

import re
from pathlib import Path

import pytest
from packaging.version import Version

FOLDER = Path(__file__).resolve().parents[1] / 'requirements'
PINNED = ('constraints', 'oldest', 'oldest_torch', 'fork')


def entries(name, operator):
    """Canonical name -> version, of the lines ``name OPERATOR version``."""
    lines = [line for line in (FOLDER / f'{name}.txt').read_text(encoding='utf-8').splitlines()
             if line and not line.startswith('#')]
    parts = [re.fullmatch(rf'([\w.-]+){operator}([\w.]+)', line) for line in lines]
    assert all(parts), f'{name}.txt: each line must be NAME{operator}VERSION'
    return {re.sub(r'[-_.]+', '-', part[1]).lower(): part[2] for part in parts}


def bounds():
    """(file, package, lower bound), of every file that setup.cfg reads."""
    names = sorted(path.stem for path in FOLDER.glob('*.txt') if path.stem not in PINNED)
    return [(name, *entry) for name in names for entry in entries(name, '>=').items()]


@pytest.mark.parametrize(('name', 'package', 'version'), bounds())
def test_each_lower_bound_is_the_lowest_version_that_is_run(name, package, version):
    run = [entries(oldest, '==') for oldest in ('oldest', 'oldest_torch')]
    assert Version(version) == min(Version(versions[package]) for versions in run if package in versions)


def test_the_tested_set_is_within_the_bounds():
    tested = entries('constraints', '==')
    assert {package for _, package, version in bounds() if Version(tested[package]) < Version(version)} == set()
