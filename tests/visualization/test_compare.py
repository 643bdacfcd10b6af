import pytest

from wfvae_toolkit.utils.errors import MissingFile, SettingError, UnknownName
from wfvae_toolkit.visualization.compare import compare_runs
from wfvae_toolkit.visualization.records import RecordWriter


@pytest.fixture
def log(tmp_path):
    """Writes a run's rows, (phase, iteration, values); returns its folder."""
    def write(name, *rows):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        writer = RecordWriter(folder)
        for phase, iteration, values in rows:
            writer.write(phase, {'iteration': iteration, **values})
        return folder
    return write


def points(curve):
    return list(zip(curve.x, curve.y, strict=True))


def test_one_panel_a_name_and_one_curve_a_run(log):
    first = log('first', ('train', 10, {'kl': 4.0}), ('val', 10, {'PSNR': 20.0}), ('train', 20, {'kl': 3.0}))
    second = log('second', ('train', 10, {'kl': 8.0}))
    panels = compare_runs([first, second], ['PSNR', 'kl'])
    assert list(panels) == ['val/PSNR', 'train/kl']
    assert [list(curves) for curves in panels.values()] == [['first', 'second']] * 2
    assert points(panels['train/kl']['first']) == [(10, 4.0), (20, 3.0)]
    assert points(panels['train/kl']['second']) == [(10, 8.0)]
    assert points(panels['val/PSNR']['second']) == []


def test_without_names_those_of_the_usual_ones_that_there_are(log):
    run = log('run', ('train', 1, {'kl': 1.0, 'learning_rate/autoencoder': 1.0}), ('val', 1, {'PSNR': 20.0}))
    assert list(compare_runs([run])) == ['val/PSNR', 'train/kl']


def test_unknown_name_lists_the_known(log):
    run = log('run', ('train', 1, {'kl': 1.0}), ('val', 1, {'PSNR': 20.0}))
    with pytest.raises(UnknownName, match="no run has logged 'psnr'; there are: train/kl, val/PSNR"):
        compare_runs([run], ['psnr'])


def test_a_name_of_both_phases_gives_two_panels_unless_its_phase_is_given(log):
    run = log('run', ('train', 1, {'x/y': 1.0}), ('val', 1, {'x/y': 2.0}))
    assert list(compare_runs([run], ['x/y'])) == ['train/x/y', 'val/x/y']
    assert list(compare_runs([run], ['val/x/y'])) == ['val/x/y']


def test_smoothing_is_the_mean_of_the_last_rows(log):
    run = log('run', *(('train', i, {'kl': value}) for i, value in enumerate([4.0, 2.0, float('nan'), 6.0, 1.0])))
    assert points(compare_runs([run], ['kl'], smooth=2)['train/kl']['run']) == [(0, 4.0), (1, 3.0), (3, 4.0), (4, 3.5)]
    with pytest.raises(SettingError, match='smooth=0'):
        compare_runs([run], ['kl'], smooth=0)


def test_runs_of_the_same_name_are_told_apart(log):
    folders = [log('a/run', ('train', 1, {'kl': 1.0})), log('b/run', ('train', 1, {'kl': 2.0}))]
    assert list(compare_runs(folders, ['kl'])['train/kl']) == [str(folder) for folder in folders]


def test_a_folder_without_a_log(tmp_path):
    with pytest.raises(MissingFile, match='holds no log.jsonl'):
        compare_runs([tmp_path])
