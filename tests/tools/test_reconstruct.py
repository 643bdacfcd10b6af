import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.odd_files import display_p3

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
# Reads and writes pictures in this process.
QUICK = ('--workers', 0)


def scores(folder):
    """The metrics of summary.json, and {stem: row} of metrics.csv."""
    with open(folder / 'metrics.csv', encoding='utf-8', newline='') as file:
        rows = {Path(row.pop('path')).stem: row for row in csv.DictReader(file)}
    return json.loads((folder / 'summary.json').read_text(encoding='utf-8')), rows


@pytest.mark.parametrize('weights', ['ema', 'raw'])
def test_pictures_that_were_written_score_what_the_evaluation_says(tool, trained, photos, tmp_path, capsys, weights):
    """test.py quantises; reconstruct.py and compare_folders.py go through PNG files."""
    tool('test')(TINY, trained, '--work-dir', tmp_path / 'test', '--crop', 24, '--cfg-options',
                 f'val_dataloader.dataset.data_root={photos}/val', 'val_dataloader.batch_size=1',
                 "val_evaluator.metrics.STLPIPS={'type':'STLPIPS','net':'alex'}")
    tool('reconstruct')(trained, photos / 'val', tmp_path / 'out', '--crop', 24, '--weights', weights, *QUICK)
    capsys.readouterr()
    tool('compare_folders')(photos / 'val', tmp_path / 'out', '--work-dir', tmp_path / 'compare', '--crop', 24, *QUICK)
    tested, compared = scores(tmp_path / 'test'), scores(tmp_path / 'compare')
    prefix = '' if weights == 'ema' else 'raw/'
    assert set(compared[1]) == set(tested[1]) == {'01', '05', '09'}
    for name in ('PSNR', 'SSIM', 'STLPIPS'):
        assert compared[0]['metrics'][name] == pytest.approx(tested[0]['metrics'][prefix + name], rel=1e-6)
        for stem, row in compared[1].items():
            assert float(row[name]) == pytest.approx(float(tested[1][stem][prefix + name]), rel=1e-6)
    printed = capsys.readouterr().out
    assert f'{compared[0]["metrics"]["PSNR"]["mean"]:.4f}' in printed
    assert 'pipeline: CenterCrop(size=24)' in printed


def test_originals_beside_make_the_comparison_free_of_options(tool, trained, photos, tmp_path, capsys):
    tool('reconstruct')(trained, photos / 'val', tmp_path / 'out', '--resolution', 24, '--beside', *QUICK)
    assert 'out: 3 pictures written' in capsys.readouterr().out
    tool('compare_folders')(photos / 'val', tmp_path / 'out', '--resolution', 24, '--work-dir', tmp_path / 'first',
                            *QUICK)
    originals = tmp_path / 'originals'
    originals.mkdir()
    for path in (tmp_path / 'out').glob('*.original.png'):
        path.rename(originals / path.name.replace('.original', ''))
    tool('compare_folders')(originals, tmp_path / 'out', '--work-dir', tmp_path / 'second', *QUICK)
    assert scores(tmp_path / 'first')[0]['metrics'] == scores(tmp_path / 'second')[0]['metrics']


def test_a_reconstruction_keeps_the_profile_that_its_numbers_are_in(tool, trained, tmp_path):
    (tmp_path / 'data').mkdir()
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (24, 24, 3), np.uint8))
    picture.save(tmp_path / 'data/p3.png', icc_profile=display_p3())
    picture.convert('CMYK').save(tmp_path / 'data/press.jpg', icc_profile=display_p3())  # fits no CMYK
    picture.save(tmp_path / 'data/plain.png')
    tool('reconstruct')(trained, tmp_path / 'data', tmp_path / 'kept', '--beside', *QUICK)
    tool('reconstruct')(trained, tmp_path / 'data', tmp_path / 'converted', '--convert-to-srgb', *QUICK)
    profiles = {path.name: Image.open(path).info.get('icc_profile') for path in (tmp_path / 'kept').iterdir()}
    assert {name for name, icc in profiles.items() if icc} == {'p3.png', 'p3.original.png'}
    assert profiles['p3.png'] == display_p3()
    assert Image.open(tmp_path / 'kept/p3.png').tobytes() == Image.open(tmp_path / 'kept/plain.png').tobytes()
    converted = Image.open(tmp_path / 'converted/p3.png')
    assert 'icc_profile' not in converted.info
    assert converted.tobytes() != Image.open(tmp_path / 'converted/plain.png').tobytes()


def test_a_bad_file_is_named_and_the_exit_is_not_zero(tool, trained, photos, tmp_path, capsys):
    data = tmp_path / 'data'
    shutil.copytree(photos / 'val', data)
    (data / '05.png').write_bytes(b'')
    with pytest.raises(SystemExit, match='1 files could not be read'):
        tool('reconstruct')(trained, data, tmp_path / 'out', *QUICK)
    captured = capsys.readouterr()
    assert captured.err == 'not reconstructed: 05.png: zero bytes\n'
    assert '2 pictures written' in captured.out
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['01.png', '09.png']
    shutil.copy(photos / 'val/05.png', data)
    tool('reconstruct')(trained, data, tmp_path / 'out', '--existing', 'skip', *QUICK)
    assert '1 pictures written, 2 were there already' in capsys.readouterr().out


@pytest.mark.parametrize(('arguments', 'message'), [
    (['nowhere.pth', 'photos', 'out'], 'nowhere.pth'),
    (['run', 'nowhere', 'out'], "there is no 'nowhere': name a folder"),
    (['run', 'photos', 'out', '--quality', 90], 'png is lossless'),
    (['run', 'photos', 'out', '--max-images', 0], '0 images'),
])
def test_what_cannot_work_is_one_line_and_writes_nothing(tool, trained, photos, tmp_path, arguments, message):
    places = {'run': trained, 'photos': photos / 'val', 'out': tmp_path / 'out'}
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        tool('reconstruct')(*(places.get(argument, argument) for argument in arguments))
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_two_processes_write_and_score_what_one_does(launch, tool, trained, photos, tmp_path):
    tool('reconstruct')(trained, photos / 'train', tmp_path / 'one', *QUICK)
    two = launch('tools/launch.sh', 2, 'tools/reconstruct.py', trained, photos / 'train', tmp_path / 'two',
                 '--launcher', 'pytorch', '--device', 'cpu')
    assert '9 pictures written' in two.stdout
    written = {path.name: path.read_bytes() for path in (tmp_path / 'one').iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / 'two').iterdir()} == written
    tool('compare_folders')(photos / 'train', tmp_path / 'one', '--work-dir', tmp_path / 'scores_1', *QUICK)
    launch('tools/launch.sh', 2, 'tools/compare_folders.py', photos / 'train', tmp_path / 'two', '--work-dir',
           tmp_path / 'scores_2', '--launcher', 'pytorch', '--device', 'cpu')
    one, two = scores(tmp_path / 'scores_1'), scores(tmp_path / 'scores_2')
    assert list(one[1]) == list(two[1])
    for name, entry in one[0]['metrics'].items():
        assert two[0]['metrics'][name]['mean'] == pytest.approx(entry['mean'], abs=1e-6)


def test_help_is_quick_and_complete(launch):
    assert '--beside' in launch(sys.executable, 'tools/reconstruct.py', '--help').stdout
