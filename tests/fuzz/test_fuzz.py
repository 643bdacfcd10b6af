"""A bounded fuzz run over the readers of user files, and what it counts."""

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


def faulty(folder):
    """Readers that die, hang, raise what they should not, and lose a sample."""
    (folder / 'pictures').mkdir(exist_ok=True)

    def raises(error):
        raise error

    readers = (lambda path: raises(Lost('gone')), lambda path: time.sleep(600), lambda path: os._exit(11),
               lambda path: raises(ZeroDivisionError()), lambda path: True)
    return {name: ([b'x' * 50], reader) for name, reader in zip(NAMES, readers, strict=True)}


@pytest.mark.slow
def test_faults_are_counted_and_their_files_kept(tmp_path):
    found = fuzz(tmp_path, seconds=60, seed=0, make=faulty, hang_s=1)
    pictures, manifests, checkpoints, logs, caches = found.values()
    for row, count in ((pictures, 'lost'), (manifests, 'hangs'), (checkpoints, 'crashes'), (logs, 'crashes'),
                       (caches, 'read')):
        # The last input may be cut short by the end.
        assert row['tried'] - 1 <= row[count] <= row['tried'] > 0
    assert {path.name.partition('_')[2] for path in (tmp_path / 'found').glob('*_*')} == set(NAMES.values()) - {
        NAMES['scan caches']}
