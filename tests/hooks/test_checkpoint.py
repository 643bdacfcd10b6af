import errno
import logging
from types import SimpleNamespace

import pytest
import torch

from wfvae_toolkit.checkpoints import LAST, list_checkpoints, load_training_checkpoint
from wfvae_toolkit.hooks import CheckpointHook
from wfvae_toolkit.utils.files import WriteError
from wfvae_toolkit.visualization.records import RecordWriter


@pytest.fixture
def start(tmp_path):
    """Hook and a stand-in for the Runner, which gives the checkpoint of an iteration."""
    def make(max_iters=10, **settings):
        hook = CheckpointHook(**settings)

        def state(iteration):
            checkpoint = {'meta': {'iteration': iteration}, 'state_dict': {'weight': torch.full((3,), iteration)}}
            hook.before_save_checkpoint(runner, checkpoint)
            return checkpoint

        runner = SimpleNamespace(work_dir=str(tmp_path), max_iters=max_iters, iter=0, state=state,
                                 train_loop=SimpleNamespace(consumed=0),
                                 logger=logging.getLogger('test'), model=SimpleNamespace(
                                     autoencoder_config=dict(type='WFVAE2Image', widths=(8, 16))))
        return hook, runner
    return make


def train(hook, runner, first=0):
    for iteration in range(first, runner.max_iters):
        hook.after_train_iter(runner, iteration)
        runner.iter = iteration + 1


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


def test_the_newest_are_kept_and_the_end_is_saved(start, tmp_path):
    train(*start(interval=3, max_keep_ckpts=2))
    assert names(tmp_path) == ['iter_9.pth', 'iter_10.pth']
    assert (tmp_path / LAST).read_text() == 'iter_10.pth\n'
    checkpoint = load_training_checkpoint(tmp_path / 'iter_9.pth')
    assert checkpoint['meta']['iteration'] == 9
    assert checkpoint['state_dict']['weight'].tolist() == [9, 9, 9]
    assert {path.name for path in tmp_path.iterdir()} == {'iter_9.pth', 'iter_10.pth', LAST}


def test_0_keeps_all(start, tmp_path):
    train(*start(interval=4, max_keep_ckpts=0))
    assert names(tmp_path) == ['iter_4.pth', 'iter_8.pth', 'iter_10.pth']


def test_old_ones_go_by_number(start, tmp_path):
    hook, runner = start(interval=1, max_keep_ckpts=2)
    for iteration in (9499, 99999, 100000):
        hook.after_train_iter(runner, iteration)
    assert names(tmp_path) == ['iter_100000.pth', 'iter_100001.pth']


@pytest.fixture
def disk(monkeypatch):
    """``disk.full = True`` makes torch.save fail half-way."""
    switch, save = SimpleNamespace(full=False), torch.save

    def write(checkpoint, file):
        if switch.full:
            file.write(b'half')
            raise OSError(errno.ENOSPC, 'No space left on device')
        save(checkpoint, file)

    monkeypatch.setattr(torch, 'save', write)
    return switch


def test_a_failed_save_removes_nothing_and_the_run_goes_on(start, tmp_path, disk, caplog):
    hook, runner = start(interval=2, max_keep_ckpts=1)
    hook.after_train_iter(runner, 1)
    disk.full = True
    hook.after_train_iter(runner, 3)
    assert f'{tmp_path}/iter_4.pth: not written: No space left on device; free space there' in caplog.text
    assert names(tmp_path) == ['iter_2.pth']
    assert (tmp_path / LAST).read_text() == 'iter_2.pth\n'
    assert load_training_checkpoint(tmp_path / 'iter_2.pth')['meta']['iteration'] == 2
    disk.full = False
    hook.after_train_iter(runner, 5)
    assert names(tmp_path) == ['iter_6.pth']
    disk.full = True
    hook.after_train_iter(runner, 7)  # not the second in a row


def test_the_second_failure_in_a_row_ends_the_run(start, tmp_path, disk):
    hook, runner = start(interval=2)
    hook.after_train_iter(runner, 1)
    disk.full = True
    hook.after_train_iter(runner, 3)
    with pytest.raises(WriteError, match='iter_6.pth: not written'):
        hook.after_train_iter(runner, 5)
    assert names(tmp_path) == ['iter_2.pth']


@pytest.mark.parametrize('end', ['max_iters', 'stop'])
def test_a_failure_at_the_end_ends_the_run(start, disk, end):
    hook, runner = start(interval=2, max_iters=3)
    hook.before_train(runner)
    disk.full = True
    runner.iter = 1
    with pytest.raises(WriteError):
        hook.after_train_iter(runner, 2) if end == 'max_iters' else hook.after_train(runner)


def test_the_best_that_cannot_be_written_is_reported(start, tmp_path, disk, caplog):
    hook, runner = start(save_best='PSNR')
    disk.full = True
    hook.after_val_epoch(runner, {'PSNR': 30.0})
    assert f'{tmp_path}/best_PSNR.pth: not written' in caplog.text


def test_a_run_that_is_stopped_saves_where_it_is_once(start, tmp_path):
    hook, runner = start(interval=4)
    hook.before_train(runner)
    hook.after_train(runner)  # nothing was done
    assert names(tmp_path) == []
    for iteration in range(6):
        runner.train_loop.consumed += 2
        hook.after_train_iter(runner, iteration)
        runner.iter = iteration + 1
    hook.after_train(runner)
    assert names(tmp_path) == ['iter_4.pth', 'iter_6.pth']
    written = (tmp_path / 'iter_6.pth').stat().st_mtime_ns
    hook.after_train(runner)
    assert (tmp_path / 'iter_6.pth').stat().st_mtime_ns == written


@pytest.mark.parametrize(('higher', 'expected'), [(True, 3), (False, 5)])
def test_the_best_is_kept_beside_them(start, tmp_path, higher, expected):
    hook, runner = start(interval=100, save_best='raw/PSNR', best_is_higher=higher)
    for iteration, value in ((1, 20.0), (3, 30.0), (5, 10.0), (7, 25.0)):
        runner.iter = iteration
        hook.after_val_epoch(runner, {'raw/PSNR': value, 'PSNR': 99.0})
    hook.after_val_epoch(runner, {'PSNR': 99.0})
    hook.after_val_epoch(runner, None)
    best = load_training_checkpoint(tmp_path / 'best_raw_PSNR.pth')
    assert best['meta']['iteration'] == expected
    assert best['best'] == {3: 30.0, 5: 10.0}[expected]
    assert names(tmp_path) == []


def test_a_resumed_run_knows_the_best(start, tmp_path):
    hook, runner = start(interval=2, save_best='PSNR', max_iters=2)
    runner.iter = 1
    hook.after_val_epoch(runner, {'PSNR': 30.0})
    train(hook, runner)
    resumed, runner = start(interval=2, save_best='PSNR', max_iters=6)
    resumed.after_load_checkpoint(runner, load_training_checkpoint(tmp_path / 'iter_2.pth'))
    runner.iter = 4
    resumed.after_val_epoch(runner, {'PSNR': 29.0})
    assert load_training_checkpoint(tmp_path / 'best_PSNR.pth')['meta']['iteration'] == 1


def test_the_score_of_the_resumed_iteration_counts(start, tmp_path):
    # Its checkpoint was written before it was validated; what a lost continuation scored does not count.
    writer = RecordWriter(tmp_path)
    for iteration, value in ((2, 20.0), (4, 30.0), (6, 40.0)):
        writer.write('val', {'iteration': iteration, 'PSNR': value})
    hook, runner = start(save_best='PSNR')
    hook.after_load_checkpoint(runner, {'best': 20.0})
    runner.iter = 4
    hook.before_train(runner)
    best = tmp_path / 'best_PSNR.pth'
    assert load_training_checkpoint(best)['best'] == 30  # whose file was missing: a run that ended in between
    best.unlink()
    for value in (29.0, 31.0):
        hook.after_val_epoch(runner, {'PSNR': value})
        assert best.exists() == (value > 30)


@pytest.mark.parametrize('settings', [dict(interval=0), dict(max_keep_ckpts=-1)])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match='CheckpointHook: interval='):
        CheckpointHook(**settings)
