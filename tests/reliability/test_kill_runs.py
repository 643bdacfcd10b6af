"""A few of the kills of kill_runs.py; docs/reliability.md has the figures of many."""

import json
import sys

import pytest


@pytest.mark.slow
def test_killed_runs_end_like_undisturbed_ones(launch, tmp_path):
    done = launch(sys.executable, 'tests/reliability/kill_runs.py', tmp_path / 'runs', '--kills', 3)
    rows = json.loads((tmp_path / 'runs/kills.json').read_text(encoding='utf-8'))
    assert [(row['ranks'], row['kind']) for row in rows] == [
        (ranks, kind) for ranks in (1, 2) for kind in ('while writing', *['at a random time'] * 2)]
    for row in rows:
        assert row['identical'], row
        assert row['hit_a_write'] or row['kind'] == 'at a random time'
        assert (row['torn_checkpoints'], row['left_over']) == ([], [])
    assert '| 2 | at a random time | 2 |' in done.stdout
