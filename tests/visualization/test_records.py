import json
import math

import pytest
from run_files import read_csv

from wfvae_toolkit.utils.files import WriteError
from wfvae_toolkit.visualization.records import RecordWriter, read_records


def test_rows_come_back(tmp_path):
    writer = RecordWriter(tmp_path)
    writer.write('train', {'iteration': 1, 'loss': 0.1 + 0.2})
    writer.write('val', {'iteration': 1, 'PSNR': 30.5})
    writer.write('train', {'iteration': 2, 'loss': 1e-20})
    assert read_records(tmp_path) == [{'phase': 'train', 'iteration': 1, 'loss': 0.1 + 0.2},
                                      {'phase': 'val', 'iteration': 1, 'PSNR': 30.5},
                                      {'phase': 'train', 'iteration': 2, 'loss': 1e-20}]
    assert [(int(row['iteration']), float(row['loss'])) for row in read_csv(tmp_path / 'train.csv')] == [
        (1, 0.1 + 0.2), (2, 1e-20)]
    assert read_csv(tmp_path / 'val.csv') == [{'iteration': '1', 'PSNR': '30.5'}]


@pytest.mark.parametrize('restart', [False, True])
def test_new_columns_are_added_at_the_end(tmp_path, restart):
    writer = RecordWriter(tmp_path)
    writer.write('train', {'iteration': 1, 'loss': 1.0})
    if restart:
        writer = RecordWriter(tmp_path)
    writer.write('train', {'iteration': 2, 'discriminator': 0.5})
    writer.write('train', {'iteration': 3, 'discriminator': 0.25, 'loss': 3.0})
    assert (tmp_path / 'train.csv').read_text().splitlines()[0] == 'iteration,loss,discriminator'
    assert read_csv(tmp_path / 'train.csv') == [
        {'iteration': '1', 'loss': '1.0', 'discriminator': ''},
        {'iteration': '2', 'loss': '', 'discriminator': '0.5'},
        {'iteration': '3', 'loss': '3.0', 'discriminator': '0.25'}]


def test_values_that_are_not_finite(tmp_path):
    RecordWriter(tmp_path).write('train', {'iteration': 1, 'loss': math.nan, 'kl': math.inf, 'pixel': 1.0})
    line, = (tmp_path / 'log.jsonl').read_text().splitlines()
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f'{name} is no JSON'))
    assert row == {'phase': 'train', 'iteration': 1, 'loss': None, 'kl': None, 'pixel': 1.0}
    assert read_csv(tmp_path / 'train.csv') == [{'iteration': '1', 'loss': '', 'kl': '', 'pixel': '1.0'}]


def test_cut_drops_what_came_after(tmp_path):
    writer = RecordWriter(tmp_path)
    for iteration in (50, 100, 150):
        writer.write('train', {'iteration': iteration, 'loss': 1.0})
        writer.write('val', {'iteration': iteration, 'PSNR': 30.0})
    resumed = RecordWriter(tmp_path)
    resumed.cut(100)
    resumed.write('train', {'iteration': 150, 'loss': 2.0})
    rows = read_records(tmp_path)
    assert [(row['phase'], row['iteration']) for row in rows] == [
        ('train', 50), ('val', 50), ('train', 100), ('val', 100), ('train', 150)]
    assert rows[-1]['loss'] == 2.0
    assert [row['iteration'] for row in read_csv(tmp_path / 'train.csv')] == ['50', '100', '150']
    assert read_csv(tmp_path / 'train.csv')[-1]['loss'] == '2.0'
    assert [row['iteration'] for row in read_csv(tmp_path / 'val.csv')] == ['50', '100']


def test_a_run_killed_while_writing(tmp_path):
    writer = RecordWriter(tmp_path)
    for iteration in (100, 200):
        writer.write('train', {'iteration': iteration, 'loss': 1.0})
    for name in ('log.jsonl', 'train.csv'):
        content = (tmp_path / name).read_bytes().rstrip(b'\r\n')
        # To "2" in the table: it must not be read as iteration 2.
        (tmp_path / name).write_bytes(content[:-6])
    assert [row['iteration'] for row in read_records(tmp_path)] == [100]
    resumed = RecordWriter(tmp_path)
    resumed.cut(100)
    resumed.write('train', {'iteration': 200, 'loss': 3.0})
    assert [(row['iteration'], row['loss']) for row in read_records(tmp_path)] == [(100, 1.0), (200, 3.0)]
    assert [(row['iteration'], row['loss']) for row in read_csv(tmp_path / 'train.csv')] == [('100', '1.0'),
                                                                                        ('200', '3.0')]


def test_nothing_written_yet(tmp_path):
    assert read_records(tmp_path) == []
    RecordWriter(tmp_path).cut(5)
    assert read_records(tmp_path) == []


def test_a_row_that_cannot_be_written_names_its_file(tmp_path):
    writer = RecordWriter(tmp_path / 'run')
    with pytest.raises(WriteError, match=f'{tmp_path}/run/log.jsonl: not written: .*; its folder does not exist'):
        writer.write('train', {'iteration': 1})
