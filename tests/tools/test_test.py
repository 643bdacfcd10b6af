import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'


@pytest.fixture(scope='module')
def run(train, tmp_path_factory):
    """A run's folder with iter_2 and iter_4."""
    return train('tiny', tmp_path_factory.mktemp('run'), **{
        'train_cfg.max_iters': 4, 'default_hooks.checkpoint.interval': 2, 'default_hooks.curves': None,
        'default_hooks.pictures': None})


@pytest.fixture
def score(tool, photos, tmp_path):
    """Scores a checkpoint on the validation photos; returns the folder of its results."""
    def call(checkpoint, *arguments, data=photos / 'val', **options):
        options = {'val_dataloader.dataset.data_root': data, **options}
        tool('test')(TINY, checkpoint, '--work-dir', tmp_path, *arguments,
                     '--cfg-options', *(f'{key}={value}' for key, value in options.items()))
        return tmp_path
    return call


def read(folder):
    """summary.json and the rows of metrics.csv."""
    with open(folder / 'metrics.csv', encoding='utf-8', newline='') as file:
        return json.loads((folder / 'summary.json').read_text(encoding='utf-8')), list(csv.DictReader(file))


def test_files_hold_scores_of_averaged_and_raw_weights(score, run, capsys):
    folder = score(run, **{'val_evaluator.metrics.STLPIPS': dict(type='STLPIPS')})
    summary, rows = read(folder)
    columns = [prefix + name for prefix in ('', 'raw/') for name in ('PSNR', 'SSIM', 'STLPIPS')]
    assert list(summary) == ['images', 'protocol', 'metrics', 'not_computed', 'skipped']
    assert (summary['images'], summary['not_computed'], summary['skipped']) == (3, {}, [])
    assert list(summary['metrics']) == columns
    assert list(rows[0]) == ['path', *columns]
    assert [row['path'] for row in rows] == ['01.png', '05.png', '09.png']
    for name, entry in summary['metrics'].items():
        values = [float(row[name]) for row in rows]
        assert entry['mean'] == pytest.approx(sum(values) / 3)
        assert entry['ci95'] > 0
        assert entry['higher_is_better'] is not name.endswith('STLPIPS')
    assert summary['metrics']['PSNR']['mean'] != summary['metrics']['raw/PSNR']['mean']
    protocol = summary['protocol']
    assert (protocol['checkpoint'], protocol['iteration'], protocol['weights']) == ('iter_4.pth', 4, 'ema')
    assert (protocol['model'], protocol['parameters']) == ('WFVAE2Image', 'encoder 0.0144 M, decoder 0.0192 M')
    assert (protocol['latent'], protocol['pipeline']) == ("the posterior's mean", 'CenterCrop(size=32)')
    printed = capsys.readouterr().out
    assert f'{summary["metrics"]["PSNR"]["mean"]:.4f}' in printed
    assert "latent: the posterior's mean" in printed
    assert f'report: {folder / "report/index.html"}' in printed
    assert '01.png' in (folder / 'report/data/data.js').read_text(encoding='utf-8')


def test_no_report_and_few_pictures_if_asked_for(score, run):
    folder = score(run / 'iter_2.pth', '--no-report', '--pictures', 1)
    assert not (folder / 'report').exists()
    assert len(json.loads((folder / 'pictures.json').read_text(encoding='utf-8'))) == 1
    assert len(list((folder / 'pictures').iterdir())) == 1


def test_pictures_show_input_reconstruction_and_error(score, run, photos):
    folder = score(run / 'iter_2.pth')
    assert read(folder)[0]['protocol']['iteration'] == 2
    assert sorted(path.name for path in (folder / 'pictures').iterdir()) == ['01.png', '05.png', '09.png']
    with Image.open(folder / 'pictures/05.png') as picture, Image.open(photos / 'val/05.png') as photo:
        assert picture.size == (3 * 32 + 2 * 4, 32)
        assert picture.crop((0, 0, 32, 32)).tobytes() == photo.convert('RGB').tobytes()


def test_pictures_that_differ_in_their_suffix_have_a_file_each(score, run, photos, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(photos / 'val', data)
    with Image.open(data / '05.png') as photo:
        photo.save(data / '05.bmp')
    folder = score(run / 'iter_2.pth', data=data)
    written = sorted(path.name for path in (folder / 'pictures').iterdir())
    assert written == ['01.png', '05.bmp.png', '05.png.png', '09.png']


def test_a_metric_without_its_weights_is_named_and_the_others_are_there(score, run, tmp_path, capsys):
    missing = dict(type='LPIPS', trunk_weights=str(tmp_path / 'alexnet.pth'))
    folder = score(run, **{'val_evaluator.metrics.LPIPS': {**missing, 'optional': True}})
    summary, _ = read(folder)
    assert list(summary['not_computed']) == ['LPIPS']
    assert str(tmp_path / 'alexnet.pth') in summary['not_computed']['LPIPS']
    assert list(summary['metrics']) == ['PSNR', 'SSIM', 'raw/PSNR', 'raw/SSIM']
    assert 'not computed: LPIPS: ' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='^error: val_evaluator.metrics.LPIPS: .* weights .*alexnet.pth'):
        score(run, **{'val_evaluator.metrics.LPIPS': missing})


def test_each_resolution_has_a_folder(score, run):
    folder = score(run, '--resolution', 16, 24)
    results = {path.name: read(path)[0] for path in folder.iterdir() if path.name != 'report'}
    assert set(results) == {'16px', '24px'}
    assert results['16px']['protocol']['pipeline'] == 'ResizeShortSide(size=16), CenterCrop(size=16)'
    assert results['16px']['metrics']['PSNR'] != results['24px']['metrics']['PSNR']
    with Image.open(folder / '24px/pictures/01.png') as picture:
        assert picture.size == (3 * 24 + 2 * 4, 24)


def test_several_protocols_have_a_folder_each_and_one_table(score, run, capsys):
    folder = score(run / 'iter_2.pth', '--protocol', 'ours', 'rae', 'ldm', '--resolution', 16, **{
        'val_evaluator.metrics.pooled': dict(type='PooledPSNR')})
    summaries = {name: read(folder / name)[0] for name in ('ours', 'rae', 'ldm')}
    assert [summary['protocol']['protocol'] for summary in summaries.values()] == ['ours', 'rae', 'ldm']
    assert summaries['ours']['protocol']['pipeline'] == 'ResizeShortSide(size=16), CenterCrop(size=16)'
    assert summaries['rae']['protocol']['pipeline'].startswith('ADM centre crop')
    assert summaries['ldm']['protocol']['latent'].startswith('a sample of the posterior')
    assert all('pooled' in summary['metrics'] for summary in summaries.values())
    for name in summaries:
        with Image.open(folder / name / 'pictures/01.png') as picture:
            assert picture.size == (3 * 16 + 2 * 4, 16)
    printed = capsys.readouterr().out
    assert re.search(r'^metric +ours +rae +ldm$', printed, re.MULTILINE)
    assert 'rae: RAE (arXiv 2510.11690)' in printed
    # Alone, each has the same numbers.
    alone = read(score(run / 'iter_2.pth', '--resolution', 16))[0]
    ours = summaries['ours']['metrics'].items()
    assert alone['metrics'] == {name: entry for name, entry in ours if 'pooled' not in name}
    assert read(score(run / 'iter_2.pth', '--protocol', 'rae', '--resolution', 16))[0]['metrics']['PSNR'] == (
        summaries['rae']['metrics']['PSNR'])


def test_a_config_may_name_the_protocol(score, run):
    summary = read(score(run / 'iter_2.pth', **{'val_evaluator.protocol': 'dc-ae', 'val_evaluator.resolution': 16}))[0]
    assert summary['protocol']['protocol'] == 'dc-ae'
    with pytest.raises(SystemExit, match='--crop 16: the protocol dc-ae crops its own squares'):
        score(run / 'iter_2.pth', '--crop', 16, **{'val_evaluator.protocol': 'dc-ae'})


def test_crop_alone_resizes_nothing(score, run, photos):
    folder = score(run, '--crop', 16)
    assert read(folder)[0]['protocol']['pipeline'] == 'CenterCrop(size=16)'
    with Image.open(folder / 'pictures/01.png') as picture, Image.open(photos / 'val/01.png') as photo:
        assert picture.crop((0, 0, 16, 16)).tobytes() == photo.convert('RGB').crop((8, 8, 24, 24)).tobytes()


def test_max_images_takes_the_first_ones(score, run):
    summary, rows = read(score(run, '--max-images', 2))
    assert summary['images'] == 2
    assert [row['path'] for row in rows] == ['01.png', '05.png']


def test_a_bad_file_is_listed_and_not_accepted_in_silence(score, run, photos, tmp_path, capsys):
    data = tmp_path / 'data'
    shutil.copytree(photos / 'val', data)
    (data / '05.png').write_bytes((data / '05.png').read_bytes()[:200])
    with pytest.raises(SystemExit, match='1 files could not be scored; --skip-bad accepts that'):
        score(run, data=data)
    assert 'not scored: 05.png: ' in capsys.readouterr().err
    summary, rows = read(tmp_path)
    assert [row['path'] for row in rows] == ['01.png', '09.png']
    assert [bad['path'] for bad in summary['skipped']] == ['05.png']
    assert summary['skipped'][0]['reason']
    assert read(score(run, '--skip-bad', data=data))[0] == summary


def test_pictures_of_any_size_are_scored_on_their_own_pixels(score, tool, run, tmp_path, capsys):
    """As by reconstruct.py and compare_folders.py, which read and write files."""
    data = tmp_path / 'data'
    data.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (('a', (33, 47)), ('b', (32, 24)), ('c', (21, 50)), ('dot', (1, 1))):
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(data / f'{name}.png')
    options = {'val_dataloader.dataset.pipeline': [], 'val_dataloader.batch_size': 2}
    with pytest.raises(SystemExit, match='1 files could not be scored; --skip-bad accepts that'):
        score(run, data=data, **options)
    printed = capsys.readouterr()
    assert 'not scored: dot.png: 1x1 px: SSIM takes images of at least 11x11 px' in printed.err
    assert 'scored are the original pixels (3 of 4 pictures)' in printed.out
    assert 'worst PSNR: ' in printed.out
    summary, rows = read(tmp_path)
    tool('reconstruct')(run, data, tmp_path / 'out', '--workers', 0)
    tool('compare_folders')(data, tmp_path / 'out', '--work-dir', tmp_path / 'compared', '--workers', 0, '--skip-bad')
    _, compared = read(tmp_path / 'compared')
    assert [row['path'] for row in compared] == [row['path'] for row in rows] == ['a.png', 'b.png', 'c.png']
    for ours, theirs in zip(rows, compared, strict=True):
        assert float(ours['PSNR']) == pytest.approx(float(theirs['PSNR']), rel=1e-6)
    kept = json.loads((tmp_path / 'pictures.json').read_text(encoding='utf-8'))
    assert kept == {name: f'pictures/{name}' for name in ('a.png', 'b.png', 'c.png')}
    assert not (tmp_path / 'worst').exists()


def test_a_score_that_is_not_a_number_is_named_and_ends_with_an_error(score, run, tmp_path, capsys):
    part = tmp_path / 'nan_part.py'
    part.write_text('def measure(reconstruction, target):\n    return (target - 2).mean((1, 2, 3)).sqrt()\n')
    row = {'val_evaluator.metrics.broken': dict(type='PictureFunction', function='nan_part.measure'),
           'custom_imports': dict(imports='nan_part')}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(SystemExit, match='some scores are not numbers; --skip-bad accepts that'):
            score(run, **row)
    assert 'not a number: broken of 3 images, the first: 01.png' in capsys.readouterr().err
    assert read(tmp_path)[0]['metrics']['broken']['mean'] is None


def test_a_tilde_is_the_home_of_the_user(tool, run, photos, monkeypatch):
    monkeypatch.setenv('HOME', str(run.parent))
    tool('test')(TINY, f'~/{run.name}', '--work-dir', f'~/{run.name}/scores', '--max-images', 1, '--cfg-options',
                 f'val_dataloader.dataset.data_root={photos}/val')
    assert read(run / 'scores')[0]['images'] == 1


def test_nothing_but_bad_files_is_an_error_whatever_is_accepted(score, run, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/a.png').touch()
    with pytest.raises(SystemExit, match='^error: val_dataloader.dataset: none of the 1 pictures could be scored; a'):
        score(run, '--skip-bad', data=tmp_path / 'data')


@pytest.mark.parametrize(('checkpoint', 'message'), [
    ('nowhere.pth', 'nowhere.pth: no such file'),
    ('.', 'no iter_N.pth and no config.json in it'),
    ('words.pth', 'words.pth: damaged or not a checkpoint|words.pth: refused'),
])
def test_no_checkpoint_is_one_line(score, tmp_path, checkpoint, message):
    (tmp_path / 'words.pth').write_text('no checkpoint')
    with pytest.raises(SystemExit, match=f'^error: .*({message})') as exit_:
        score(tmp_path / checkpoint)
    assert len(exit_.value.code.splitlines()) == 1


def test_no_data_is_one_line(score, run, tmp_path):
    with pytest.raises(SystemExit, match='^error: val_dataloader.dataset: there is no folder .*data_root$'):
        score(run, data=tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match='^error: val_dataloader.dataset: no image under .*data_root'):
        score(run, data=tmp_path / 'empty')


def test_as_a_command_results_lie_beside_the_checkpoint(launch, run, photos):
    launch(sys.executable, 'tools/test.py', TINY, run / 'iter_4.pth', '--cfg-options',
           f'val_dataloader.dataset.data_root={photos}/val')
    assert read(run / 'evaluation')[0]['images'] == 3
    failed = launch(sys.executable, 'tools/test.py', TINY, run / 'iter_5.pth', check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip() == f'error: {run}/iter_5.pth: no such file or folder'
