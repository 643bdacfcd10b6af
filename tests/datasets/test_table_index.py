"""Places that are found in a parquet or Arrow file hold the bytes of the pictures."""

import pyarrow as pa
import pytest

from tests.datasets.shard_samples import encoded
from tests.datasets.table_samples import rows_of, write_arrow, write_parquet
from wfvae_toolkit.datasets.shard_files import ShardFiles
from wfvae_toolkit.datasets.table_index import index_rows, picture_columns


def index_of(path):
    files = ShardFiles(path.parent, [path.name])
    return index_rows(files, 0, files.state(0))


# Pages end after a number of rows or of bytes; pictures may be empty, equal or contain each other.
CONTENTS = {0: b'', 1: encoded(1), 2: encoded(1), 3: encoded(1)[:200], 4: b'\0' * 900, 5: encoded(5), 6: None, 7: b'x'}


@pytest.mark.parametrize('options', [
    {}, {'data_page_size': 600, 'write_batch_size': 1}, {'data_page_version': '2.0'}, {'row_group_size': 3},
    {'write_page_index': True}], ids=str)
def test_each_place_in_a_parquet_file_holds_its_picture(tmp_path, options):
    index = index_of(write_parquet(tmp_path / 'a.parquet', rows_of(range(8), CONTENTS), **options))
    check(index, (tmp_path / 'a.parquet').read_bytes())


@pytest.mark.parametrize('batch_rows', [1, 3, 8])
def test_each_place_in_an_arrow_file_holds_its_picture(tmp_path, batch_rows):
    index = index_of(write_arrow(tmp_path / 'a.arrow', rows_of(range(8), CONTENTS), batch_rows))
    check(index, (tmp_path / 'a.arrow').read_bytes())


def check(index, data):
    assert [index.key(number) for number in range(7)] == [f'{row:09d}' for row in range(8) if row != 6]
    for member, row in enumerate(row for row in range(8) if row != 6):
        start, size = index.member_start[member], index.member_size[member]
        assert data[start:start + size] == CONTENTS[row], row
    assert index.shards[0].passed_over == {'rows without a picture': 1}


def test_a_compressed_column_is_found_by_row_group_and_row(tmp_path):
    index = index_of(write_parquet(tmp_path / 'a.parquet', rows_of(range(5)), 'snappy', row_group_size=3))
    assert index.member_start.tolist() == [0, 0, 0, 1, 1]
    assert index.member_size.tolist() == [-1, -2, -3, -1, -2]


def test_columns_that_can_hold_pictures_are_found_by_their_type():
    kinds = {'image': pa.struct([('bytes', pa.binary()), ('path', pa.string())]), 'raw': pa.large_binary(),
             'other': pa.struct([('bytes', pa.string())]), 'text': pa.string(), 'number': pa.int64()}
    assert picture_columns(pa.schema(kinds)) == {'image': 'image.bytes', 'raw': 'raw'}
