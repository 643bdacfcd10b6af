import pytest

from wfvae_toolkit.checkpoints import LAST, list_checkpoints, load_training_checkpoint
from wfvae_toolkit.hooks import CheckpointHook
from wfvae_toolkit.utils.files import WriteError


def train(hook, runner, first=0):
    for iteration in range(first, runner.max_iters):
        hook.after_train_iter(runner, iteration)
        runner.iter = iteration + 1


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


def test_the_newest_are_kept_and_the_end_is_saved(start_checkpoints, tmp_path):
    train(*start_checkpoints(interval=3, max_keep_ckpts=2))
    assert names(tmp_path) == ['iter_9.pth', 'iter_10.pth']
    assert (tmp_path / LAST).read_text() == 'iter_10.pth\n'
    checkpoint = load_training_checkpoint(tmp_path / 'iter_9.pth')
    assert checkpoint['meta']['iteration'] == 9
    assert checkpoint['state_dict']['weight'].tolist() == [9, 9, 9]
    assert {path.name for path in tmp_path.iterdir()} == {'iter_9.pth', 'iter_10.pth', LAST}


@pytest.mark.parametrize('everything', [0, -1])
def test_0_keeps_all(start_checkpoints, tmp_path, everything):
    train(*start_checkpoints(interval=4, max_keep_ckpts=everything))
    assert names(tmp_path) == ['iter_4.pth', 'iter_8.pth', 'iter_10.pth']


def test_old_ones_go_by_number(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints(interval=1, max_keep_ckpts=2)
    for iteration in (9499, 99999, 100000):
        hook.after_train_iter(runner, iteration)
    assert names(tmp_path) == ['iter_100000.pth', 'iter_100001.pth']


def test_a_failed_save_removes_nothing_and_the_run_goes_on(start_checkpoints, tmp_path, disk, caplog):
    hook, runner = start_checkpoints(interval=2, max_keep_ckpts=1)
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


def test_the_second_failure_in_a_row_ends_the_run(start_checkpoints, tmp_path, disk):
    hook, runner = start_checkpoints(interval=2)
    hook.after_train_iter(runner, 1)
    disk.full = True
    hook.after_train_iter(runner, 3)
    with pytest.raises(WriteError, match='iter_6.pth: not written'):
        hook.after_train_iter(runner, 5)
    assert names(tmp_path) == ['iter_2.pth']


@pytest.mark.parametrize('end', ['max_iters', 'stop'])
def test_a_failure_at_the_end_ends_the_run(start_checkpoints, disk, end):
    hook, runner = start_checkpoints(interval=2, max_iters=3)
    hook.before_train(runner)
    disk.full = True
    runner.iter = 1
    with pytest.raises(WriteError):
        hook.after_train_iter(runner, 2) if end == 'max_iters' else hook.after_train(runner)


def test_a_run_that_is_stopped_saves_where_it_is_once(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints(interval=4)
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
    runner.train_loop.early_stop = 'AHook'  # which the file does not say yet
    hook.after_train(runner)
    assert (tmp_path / 'iter_6.pth').stat().st_mtime_ns > written


@pytest.mark.parametrize('settings', [dict(interval=0), dict(max_keep_ckpts=-2)])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match='CheckpointHook: interval='):
        CheckpointHook(**settings)
