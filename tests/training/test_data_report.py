"""Warnings of training and validation about unusable files, small pictures and colour profiles."""

import json
import shutil

import pytest
from PIL import Image
from run_files import read_csv

from tests.datasets.odd_files import display_p3

SHORT = {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2,
         'default_hooks.logger.interval': 2, 'default_hooks.curves': None, 'default_hooks.pictures': None,
         'default_hooks.flat_fields': None, 'default_hooks.checkpoint.save_best': None}


def log_of(folder):
    """Text of the newest log file of a run."""
    return max(folder.glob('*/*.log')).read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def faulty(train, photos, tmp_path_factory):
    """A run on pictures, some of them bad, small, or with another colour profile; returns (data, run)."""
    data = tmp_path_factory.mktemp('data')
    shutil.copytree(photos / 'train', data / 'train')
    shutil.copytree(photos / 'val', data / 'val')
    for path in sorted((data / 'train').iterdir())[1:]:
        path.write_bytes(b'no picture')
    Image.new('RGB', (9, 40), (200, 60, 40)).save(data / 'train/small.png', icc_profile=display_p3())
    (data / 'train/phone.heic').touch()
    (data / 'val/05.png').write_bytes(b'')
    run = tmp_path_factory.mktemp('run')
    train('tiny', run, **{**SHORT, 'train_cfg.max_iters': 4, 'train_cfg.max_bad_files': 20}, **{
        f'{split}_dataloader.dataset.data_root': data / split for split in ('train', 'val')})
    return data, run


def test_the_first_bad_files_are_named_and_all_are_counted(faulty):
    log = log_of(faulty[1])
    assert log.count('; another picture replaces it') == 5
    assert 'not an image, or its header is damaged' in log
    assert log.count('further ones are only listed in') == 1
    assert '8 of 10 training files could not be used, other pictures replaced them; ' in log


def test_files_passed_over_small_pictures_and_colour_profiles_are_said(faulty):
    data, run = faulty
    log = log_of(run)
    assert log.count(f'{data}/train: 10 pictures; 1 other files are passed over: 1 .heic') == 1
    assert log.count('enlarges pictures that are too small') == 1
    assert log.count('a first picture has the colour profile Display P3 (not converted)') == 1
    assert 'of 8 pictures were enlarged' in log
    assert 'of 8 pictures have the colour profile Display P3 (not converted)' in log


def test_validation_lists_what_it_cannot_read_in_log_table_and_file(faulty):
    _, run = faulty
    log = log_of(run)
    assert log.count('bad file 05.png: zero bytes; it has no scores') == 1  # of two validations
    assert log.count('validation: 1 of 3 files could not be scored') == 1  # MMEngine shows a warning once
    assert [row['not_scored'] for row in read_csv(run / 'val.csv')] == ['1', '1']
    rows = [json.loads(line) for line in (run / 'bad_files.jsonl').read_text().splitlines()]
    assert [row for row in rows if 'split' in row] == [{'path': '05.png', 'reason': 'zero bytes', 'split': 'val'}]
    assert len(rows) == 9


@pytest.mark.parametrize(('split', 'workers', 'message'), [
    ('train', 0, 'error: none of the 2 files can be used; the first: .*[01].png: zero bytes'),
    ('train', 1, 'error: none of the 2 files can be used; the first: .*[01].png: zero bytes'),
    ('val', 0, 'error: val_dataloader.dataset: none of the 2 pictures could be scored; 0.png: zero bytes; 1.png: zero'),
])
@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_nothing_but_bad_files_ends_in_one_line(train, tmp_path, split, workers, message):
    (tmp_path / 'data').mkdir()
    for number in range(2):
        (tmp_path / f'data/{number}.png').touch()
    options = {f'{split}_dataloader.dataset.data_root': tmp_path / 'data', f'{split}_dataloader.num_workers': workers}
    with pytest.raises(SystemExit, match=f'^{message}') as end:
        train('tiny', tmp_path / 'run', **SHORT, **options)
    assert len(end.value.code.splitlines()) == 1


def test_validation_at_native_sizes(train, photos, tmp_path):
    Image.open(sorted((photos / 'val').iterdir())[0]).crop((0, 0, 31, 29)).save(tmp_path / 'odd.png')
    run = train('tiny', tmp_path / 'run', **SHORT, **{
        'val_dataloader.dataset.data_root': tmp_path, 'val_dataloader.dataset.pipeline': []})
    assert float(read_csv(run / 'val.csv')[0]['PSNR']) > 0
