from pathlib import Path

import pytest

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'one of the arguments --max-iters --minutes is required'),
    (['--max-iters', 5, '--minutes', 1], 'not allowed with argument'),
    (['--max-iters', 0], '--max-iters 0: a number above 0'),
    (['--minutes', -1], '--minutes -1.0: a number above 0'),
    (['--max-iters', 5, '--jobs', 0], '--jobs 0: a number above 0'),
])
def test_a_budget_is_needed(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool('ablate')(TINY, *arguments)
    assert message in capsys.readouterr().err


def test_mistakes_are_one_line_before_anything_runs(tool, tmp_path):
    with pytest.raises(SystemExit, match='^error: no config file nowhere.py'):
        tool('ablate')(TINY, 'nowhere.py', '--max-iters', 5, '--work-dir', tmp_path)
    with pytest.raises(SystemExit, match=r'^error: --cfg-options model\.nothing'):
        tool('ablate')(TINY, '--max-iters', 5, '--work-dir', tmp_path, '--cfg-options', 'model.nothing=1')
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_one_crash_of_two_leaves_a_table_and_an_exit_code(tool, photos, tmp_path, capsys):
    bad = tmp_path / 'bad.py'
    bad.write_text(f"_base_ = {str(TINY)!r}\nload_from = 'nowhere.pth'\n")
    good = tmp_path / 'good.py'
    good.write_text(f'_base_ = {str(TINY)!r}\n')
    command = [good, bad, '--max-iters', 2, '--work-dir', tmp_path / 'study', '--cfg-options',
               f'train_dataloader.dataset.data_root={photos}/train', f'val_dataloader.dataset.data_root={photos}/val']
    for _ in range(2):  # the second call trains nothing but the failed one
        with pytest.raises(SystemExit, match='1 of 2 runs failed; the table has the others'):
            tool('ablate')(*command)
        printed = capsys.readouterr().out
        assert 'nowhere.pth: no such file' in printed
        assert '| `good` |' in printed
    assert '2 runs, 1 of them finished before' in printed


@pytest.mark.slow
def test_minutes_are_measured_and_kept(tool, photos, tmp_path, capsys):
    """The real pilot: its log has the rows that the estimate reads."""
    tool('ablate')(TINY, '--minutes', 0.001, '--work-dir', tmp_path, '--cfg-options',
                   f'train_dataloader.dataset.data_root={photos}/train', 'default_hooks.curves=None',
                   f'val_dataloader.dataset.data_root={photos}/val')
    printed = capsys.readouterr().out
    assert 'updates in 0.001 min' in printed
    assert '| `tiny` |' in printed
