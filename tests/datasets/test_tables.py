"""Tables are a folder of the same pictures: rules, order and resume."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.datasets.shard_samples import encoded
from tests.datasets.table_samples import rows_of, write_arrow, write_parquet
from tests.helpers import take
from wfvae_toolkit.datasets import ImageShards, ImageTable, SampleKey, build_dataloader, open_images, write_shards
from wfvae_toolkit.datasets.order import WindowOrder
from wfvae_toolkit.utils.errors import SettingError

COUNTS = [5, 2, 6]
FORMS = {'plain': {}, 'snappy': dict(compression='snappy', row_group_size=2)}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Thirteen rows in three files, by form; the fourth picture is truncated."""
    root, found = tmp_path_factory.mktemp('tables'), {}
    for form in (*FORMS, 'arrow'):
        found[form] = root / form
        found[form].mkdir()
        first = 0
        for number, count in enumerate(COUNTS):
            table = rows_of(range(first, first + count), {3: encoded(3)[:300]} if first == 0 else None)
            if form == 'arrow':
                write_arrow(found[form] / f'{number}.arrow', table, 2)
            else:
                write_parquet(found[form] / f'{number}.parquet', table, **FORMS[form])
            first += count
    return found


@pytest.mark.parametrize('form', ['plain', 'snappy', 'arrow'])
def test_every_row_is_its_picture_and_its_fields(folders, form):
    dataset = ImageTable(folders[form], extra_keys=['label', 'caption'])
    assert len(dataset) == sum(COUNTS)
    assert dataset.remarks() == ImageTable(folders[form]).remarks() == []
    for number in (0, 12, 4, 5, 7, 6, 11):
        pixels = np.asarray(Image.open(io.BytesIO(encoded(number)))).transpose(2, 0, 1)
        sample = dataset[SampleKey(number, 0, 0)]
        np.testing.assert_array_equal(sample.image, pixels)
        assert sample.extras == {'label': number, 'caption': f'text {number}'}
        assert {'label': number, 'caption': f'text {number}'}.items() <= dataset.fields(number).items()
    assert dataset.path(5).endswith('/000000000')
    assert dataset[SampleKey(3, 0, 0)].bad[0].path.endswith('/000000003')


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
@pytest.mark.parametrize(('form', 'window'), [('plain', None), ('snappy', 2), ('arrow', 1)])
def test_order_and_resume_are_exact_for_any_workers_and_ranks(folders, form, window):
    def loader(batch_size, workers=0, rank=0, world_size=1):
        dataset = dict(type='ImageTable', data_root=str(folders[form]), shuffle_window=window, on_bad='substitute',
                       pipeline=[dict(type='RandomCrop', size=16), dict(type='RandomFlip')])
        return build_dataloader(dict(batch_size=batch_size, num_workers=workers, dataset=dataset), training=True,
                                seed=4, rank=rank, world_size=world_size)
    whole = take(loader(4), 8)
    assert {index for batch in whole[:3] for index in batch.indices} | {3} >= set(range(13)) - set(whole[3].indices)
    resumed = loader(4, 2)
    resumed.sampler.set_position(5 * 4)
    for one, two in zip(whole[5:], take(resumed, 3), strict=True):
        assert torch.equal(one.images, two.images)
        assert (one.paths, one.seeds, one.bad) == (two.paths, two.seeds, two.bad)
    ranks = [take(loader(2, rank=rank, world_size=2), 8) for rank in range(2)]
    for expected, *parts in zip(whole, *ranks, strict=True):
        rows = {position: part.images[row] for part in parts for row, position in enumerate(part.positions)}
        assert torch.equal(torch.stack([rows[position] for position in expected.positions]), expected.images)


@pytest.mark.parametrize('form', ['plain', 'arrow'])
def test_only_the_bytes_of_a_picture_are_read(folders, form):
    dataset = ImageTable(folders[form])
    read, places = dataset.files.read, []
    dataset.files.read = lambda number, start, length: places.append((number, length)) or read(number, start, length)
    dataset[SampleKey(12, 0, 0)]
    assert places == [(2, len(encoded(12)))]


def test_a_compressed_row_group_is_read_once_within_its_window(folders):
    dataset = ImageTable(folders['snappy'], shuffle_window=2)
    order = dataset.order(len(dataset), 0, True)
    assert isinstance(order, WindowOrder)
    reads = []
    for number in range(len(COUNTS)):
        reader = dataset._reader(number)
        reader.read = lambda group, columns, number=number, read=reader.read: reads.append((number, group)) or read(
            group, columns)
    for position in range(len(dataset)):
        dataset[SampleKey(order(position), position, 0)]
    groups = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2)]
    # The truncated picture is replaced by the next row, whose group may have been left already.
    assert sorted(set(reads)) == groups
    assert len(reads) <= len(groups) + 2


def test_a_mask_is_another_column(tmp_path):
    mask = io.BytesIO()
    Image.linear_gradient('L').resize((24, 20)).save(mask, 'PNG')
    table = rows_of([0, 1]).append_column('mask', pa.array([mask.getvalue()] * 2))
    write_parquet(tmp_path / 'a.parquet', table)
    dataset = ImageTable(tmp_path, mask_keys=['mask'])
    assert (dataset.column, dataset[1].extras['mask'].shape) == ('image', (1, 20, 24))
    with pytest.raises(SettingError, match='the columns image, mask can hold pictures: set column to one of them'):
        ImageTable(tmp_path)
    with pytest.raises(SettingError, match="no column 'none' in .*; its columns are image, label, caption, mask"):
        ImageTable(tmp_path, column='image', extra_keys=['none'])
    with pytest.raises(SettingError, match="column='none'; columns that hold pictures, .*: image, mask"):
        ImageTable(tmp_path, column='none')


def test_a_saved_data_set_is_what_its_state_names(tmp_path):
    write_arrow(tmp_path / 'data-00000-of-00001.arrow', rows_of([0, 1]))
    write_arrow(tmp_path / 'cache-0123.arrow', rows_of([0, 1]))
    (tmp_path / 'dataset_info.json').write_text('{}')
    (tmp_path / 'state.json').write_text(json.dumps({'_data_files': [{'filename': 'data-00000-of-00001.arrow'}]}))
    dataset = ImageTable(tmp_path)
    assert len(dataset) == 2
    remark, = dataset.remarks()
    assert remark.endswith('1 other files are passed over: 1 .arrow that state.json does not name')
    (tmp_path / 'state.json').write_text('{}')
    with pytest.raises(SettingError, match='state.json names no files of a saved data set'):
        ImageTable(tmp_path)


def test_a_file_that_changes_while_it_is_read_ends_the_run(tmp_path):
    write_parquet(tmp_path / 'a.parquet', rows_of([0, 1]))
    dataset = ImageTable(tmp_path)
    write_parquet(tmp_path / 'a.parquet', rows_of([5, 6, 7]))
    dataset.files._open.clear()
    with pytest.raises(SettingError, match='a.parquet has changed since it was indexed: start again'):
        dataset[SampleKey(0, 0, 0)]


def test_tools_take_them_and_make_shards_of_them(folders, tmp_path):
    for form, suffix in (('plain', 'parquet'), ('snappy', 'parquet'), ('arrow', 'arrow')):
        assert all(isinstance(open_images(data), ImageTable) for data in (
            folders[form], folders[form] / f'1.{suffix}', f'{folders[form]}/{{0..1}}.{suffix}'))
        written = write_shards(folders[form], tmp_path / form)
        assert (written.pictures, len(written.left_out)) == (12, 1)
        shards = ImageShards(tmp_path / form, extra_keys=['caption'])
        assert [shards.read(index) for index in range(3, 12)] == [encoded(number) for number in range(4, 13)]
        assert shards.extras(11) == {'caption': 'text 12'}
