"""Requests to stop, and processes that torchrun starts again."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_files import assert_same_run, read_csv

from tests import short_runs
from tests.short_runs import LENGTH, stop

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
BASE = {**short_runs.BASE, 'default_hooks.flat_fields': None}


# one process

@pytest.mark.parametrize(('name', 'status'), [('SIGTERM', 143), ('SIGINT', 130), ('SIGUSR1', 138)])
def test_a_signal_ends_the_run_where_it_goes_on_from(train, tmp_path, capsys, name, status):
    options = {**BASE, 'train_dataloader.num_workers': 2 if name == 'SIGINT' else 0}
    train('tiny', tmp_path / 'whole', **options)
    with pytest.raises(SystemExit) as end:
        train('tiny', tmp_path / 'stopped', **options, **stop(name, 7))
    assert end.value.code == status
    said = ''.join(capsys.readouterr())
    assert f'stopped by {name} after iteration 7 of 9; the same command with --resume goes on' in said
    assert [path.name for path in sorted((tmp_path / 'stopped').glob('iter_*.pth'))] == ['iter_5.pth', 'iter_7.pth']
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole', LENGTH)


def test_a_signal_to_all_processes_leaves_the_workers_to_finish_the_iteration(train, tmp_path):
    # As a terminal, Slurm and torchrun send it.
    options = {**BASE, 'train_dataloader.num_workers': 2}
    hook = dict(type='run_probes.StopAt', iteration=2, how='group SIGTERM')
    with pytest.raises(SystemExit) as end:
        train('tiny', tmp_path, **options, custom_hooks=[hook])
    assert end.value.code == 143
    assert (tmp_path / 'iter_2.pth').exists()


@pytest.mark.parametrize(('how', 'iteration', 'stopped'), [
    ('unreadable', 7, 7), ('unreadable validation', 7, 8)])
def test_pictures_that_cannot_be_read_end_the_run_where_it_goes_on_from(train, tmp_path, capsys, how, iteration,
                                                                       stopped):
    train('tiny', tmp_path / 'whole', **BASE)
    capsys.readouterr()
    with pytest.raises(SystemExit, match='^error: the disk is gone$'):
        train('tiny', tmp_path / 'stopped', **BASE, **stop(how, iteration))
    assert (f'stopped after iteration {stopped} of 9, because pictures cannot be read; the same command with --resume '
            'goes on') in ''.join(capsys.readouterr())
    train('tiny', tmp_path / 'stopped', '--resume', **BASE)
    assert re.search(rf'resumed from .*iter_{stopped}\.pth', ''.join(capsys.readouterr()))
    assert_same_run(tmp_path / 'stopped', tmp_path / 'whole', LENGTH)


# two processes

@pytest.fixture(scope='module')
def arguments(photos):
    """Of tools/dist_train.sh for a run in ``folder``."""
    roots = {f'{split}_dataloader.dataset.data_root': photos / split for split in ('train', 'val')}

    def make(folder, *more, **options):
        rows = {**BASE, **roots, **options}
        return ['tools/dist_train.sh', TINY, 2, '--work-dir', folder, *more, '--cfg-options',
                *(f'{key}={value}' for key, value in rows.items())]
    return make


@pytest.fixture(scope='module')
def whole(launch, arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    launch(*arguments(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('restarts', [0, 1])
def test_one_rank_s_signal_stops_all(launch, arguments, whole, tmp_path, restarts):
    done = launch(*arguments(tmp_path, **stop('SIGUSR1', 7, rank=1)), check=False, env={'MAX_RESTARTS': str(restarts)})
    assert done.returncode == 138, done.stderr[-3000:]
    assert 'stopped by SIGUSR1 after iteration 7 of 9' in done.stdout + done.stderr
    launch(*arguments(tmp_path, '--resume'))
    assert_same_run(tmp_path, whole, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize(('how', 'stopped'), [('unreadable', 7), ('unreadable validation', 8)])
def test_pictures_that_one_rank_cannot_read_stop_all(launch, arguments, whole, tmp_path, how, stopped):
    done = launch(*arguments(tmp_path, **stop(how, 7, rank=1)), check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said[-3000:]
    assert 'error: rank 1 stopped by StorageError: the disk is gone' in said
    assert (tmp_path / f'iter_{stopped}.pth').exists()
    launch(*arguments(tmp_path, '--resume'))
    assert_same_run(tmp_path, whole, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_the_launcher_passes_a_signal_on(launch, arguments, tmp_path, number, status):
    command = [str(part) for part in arguments(tmp_path, **{
        'train_cfg.max_iters': 100_000, 'default_hooks.checkpoint.interval': 100_000,
        'train_cfg.val_interval': 100_000, 'train_dataloader.num_workers': 1})]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={
        **os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT)})
    while process.poll() is None and not (tmp_path / 'train.csv').exists():
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == status, said[-3000:]
    checkpoint, = tmp_path.glob('iter_*.pth')
    iteration = int(checkpoint.stem.removeprefix('iter_'))
    assert f'stopped by {number.name} after iteration {iteration} of 100000' in said
    assert int(read_csv(tmp_path / 'train.csv')[-1]['iteration']) <= iteration


@pytest.mark.slow
@pytest.mark.parametrize('iteration', [3, 7])
def test_a_killed_process_is_started_again_and_changes_nothing(launch, arguments, whole, tmp_path, iteration):
    """Before the first checkpoint and after it."""
    done = launch(*arguments(tmp_path, **stop('SIGKILL', iteration, rank=1)), env={'MAX_RESTARTS': '1'})
    said = done.stdout + done.stderr
    assert ('resumed from' in said) == (iteration == 7)
    assert not list(tmp_path.glob('before_*'))
    assert_same_run(tmp_path, whole, LENGTH)
