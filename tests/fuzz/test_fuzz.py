"""A bounded fuzz run over the readers of user files, and what it counts."""

import functools
import os
import time

import numpy as np
import pytest

from tests.fuzz import inputs
from tests.fuzz.run import COUNTS, NAMES, Lost, fuzz


def test_no_crash_no_hang_no_lost_sample(tmp_path):
    found = fuzz(tmp_path, seconds=4, seed=0)
    assert found.keys() == NAMES.keys()
    assert sum(row['tried'] for row in found.values()) > 10
    for name, row in found.items():
        assert row.keys() == set(COUNTS)
        assert (row['crashes'], row['hangs'], row['lost']) == (0, 0, 0), (name, row, tmp_path / 'found')


def test_inputs_are_a_function_of_their_number():
    files = inputs.manifests()
    first, again, other = (inputs.mutated(files[0], files, np.random.default_rng((0, number)))
                           for number in (5, 5, 6))
    assert first == again != other


def _lose(path):
    raise Lost('gone')


FAULTS = {'crashes': lambda path: os._exit(11), 'hangs': lambda path: time.sleep(600), 'unexpected': lambda path: 1 / 0,
          'lost': _lose}


def faulty(fault, folder):
    """Readers that all have one fault."""
    (folder / 'pictures').mkdir(exist_ok=True)
    return {name: ([b'x' * 50], FAULTS[fault]) for name in NAMES}


@pytest.mark.slow
@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_counted_and_its_file_kept(tmp_path, fault):
    found = fuzz(tmp_path, seconds=2, seed=0, make=functools.partial(faulty, fault), hang_s=1)
    tried, counted = (sum(row[count] for row in found.values())
                      for count in ('tried', 'crashes' if fault == 'unexpected' else fault))
    assert tried - 1 <= counted <= tried  # the last one may be cut short by the end
    assert counted > 0
    assert len([path for path in (tmp_path / 'found').iterdir() if path.suffix != '.txt']) >= counted
