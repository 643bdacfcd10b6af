"""The place of tests: wfvae_toolkit/losses/kl.py is tested in tests/losses/test_kl.py."""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / 'wfvae_toolkit'
LEAST_LINES = 25  # a shorter module only holds data
# Module -> the tests that it has elsewhere.
ELSEWHERE = {
    'analysis/benchmark/limit.py': 'analysis/benchmark/test_run.py',
    'analysis/benchmark/networks.py': 'analysis/benchmark/test_run.py',
    'analysis/benchmark/pipelines.py': 'analysis/benchmark/test_run.py',
    'analysis/benchmark/timing.py': 'analysis/benchmark/test_run.py',
    'analysis/benchmark/untrained.py': 'analysis/benchmark/test_run.py',
    'evaluation/checkpoint.py': 'tools/test_test.py',  # its one caller, tools/test.py
    'utils/conventions.py': 'docs/test_for_mmengine_users.py',  # sentences, which that page lists
}


def modules():
    """Modules of at least LEAST_LINES lines, by their path in the package."""
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py') if path.stem != '__init__'
                  and len(path.read_text(encoding='utf-8').splitlines()) >= LEAST_LINES)


def place_of(module):
    """Path of a module's test file in the folder of tests."""
    return ELSEWHERE.get(module) or Path(module).with_name(f'test_{Path(module).name}').as_posix()


@pytest.mark.parametrize('module', modules())
def test_a_module_has_its_tests(module):
    assert (TESTS / place_of(module)).is_file(), f'write tests/{place_of(module)}, or name the tests in ELSEWHERE'


def test_nothing_stands_elsewhere_without_need():
    assert ELSEWHERE.keys() <= set(modules())
    for module in ELSEWHERE:
        own = Path(module).with_name(f'test_{Path(module).name}')
        assert not (TESTS / own).exists(), f'tests/{own} is there; take it out of ELSEWHERE'


def test_no_file_of_tests_is_long():
    long = [path for path in TESTS.rglob('*.py') if len(path.read_text(encoding='utf-8').splitlines()) > 400]
    assert not long
