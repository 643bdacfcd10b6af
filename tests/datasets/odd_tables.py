"""Bad and odd parquet and Arrow files, each beside a good one, with what becomes of it; see `odd_shards`."""

import pyarrow as pa

from tests.datasets.odd_shards import OddShard
from tests.datasets.shard_samples import encoded
from tests.datasets.table_samples import rows_of, write_arrow, write_parquet

TWO = rows_of([0, 1])
NULL = rows_of([0, 1, 2], {1: None})


def parquet(table, **options):
    return lambda path: write_parquet(path, table, **options)


def arrow(table, **options):
    return lambda path: write_arrow(path.with_suffix('.arrow'), table, **options)


def changed(write, change):
    """A writer of what ``change`` makes of a file's bytes."""
    def written(path):
        path = write(path)
        path.write_bytes(change(path.read_bytes()))
    return written


def binary(kind):
    """A table whose pictures are plain bytes."""
    return pa.table({'image': pa.array([encoded(0), encoded(1)], kind)})


def without_group(data):
    """Bytes with damage in the header of the first page of the second row group."""
    place = data.index(encoded(2)[:300]) - 20
    return data[:place] + b'\xff' * 20 + data[place + 20:]


TABLES = [
    OddShard('struct of bytes and path, as datasets writes it', parquet(TWO), 2),
    OddShard('compressed by snappy', parquet(TWO, compression='snappy'), 2),
    OddShard('compressed by zstd, in row groups of one', parquet(TWO, compression='zstd', row_group_size=1), 2),
    OddShard('pages of version 2', parquet(TWO, data_page_version='2.0'), 2),
    OddShard('column of bytes', parquet(binary(pa.binary())), 2),
    OddShard('column of large bytes', parquet(binary(pa.large_binary())), 2),
    OddShard('the same picture twice', parquet(rows_of([0, 1], {1: encoded(0)})), 2),
    OddShard('IPC stream, as save_to_disk writes it', arrow(TWO), 2),
    OddShard('IPC stream in batches of one', arrow(TWO, batch_rows=1), 2),
    OddShard('null picture', parquet(NULL), 2, '1 rows without a picture'),
    OddShard('null picture, compressed', parquet(NULL, compression='snappy'), 2, '1 rows without a picture'),
    OddShard('null picture in an IPC stream', arrow(NULL), 2, '1 rows without a picture'),
    OddShard('null in place of the struct', parquet(pa.table({'image': pa.array(
        [{'bytes': encoded(0), 'path': ''}, None], TWO.schema.field('image').type)})), 1, '1 rows without a picture'),
    OddShard('no rows', parquet(TWO.slice(0, 0)), 0, '1 of the 2 files hold no picture, such as 00000.parquet'),
    OddShard('no column that can hold pictures', parquet(pa.table({'caption': ['a']})), 0, '1 rows without a picture'),
    OddShard('two columns that can hold pictures, one of which column names', parquet(
        TWO.append_column('mask', TWO['image'])), 2, settings={'column': 'image'}),
    OddShard('picture that is none', parquet(rows_of([0, 1, 2], {2: b'text'})), 3, bad='not an image'),
    OddShard('picture of zero bytes', parquet(rows_of([0, 1, 2], {2: b''})), 3, bad='zero bytes'),
    OddShard('truncated picture', parquet(rows_of([0, 1, 2], {2: encoded(2)[:300]})), 3, bad='truncated'),
    OddShard('damaged row group', changed(parquet(rows_of([0, 1, 2, 3]), row_group_size=2), without_group), 2,
             '2 rows of a damaged row group, column image'),
    OddShard('damaged row group, compressed: found when it is read',
             changed(parquet(rows_of([0]), compression='snappy'), lambda data: data[:4] + b'\xff' * 30 + data[34:]), 1,
             bad='row group 0 cannot be read'),
    OddShard('cut parquet file', changed(parquet(TWO), lambda data: data[:-20]), 0, 'cannot be read: '),
    OddShard('cut IPC stream', changed(arrow(TWO), lambda data: data[:900]), 0, 'cannot be read: '),
    OddShard('empty file', lambda path: path.write_bytes(b''), 0, 'cannot be read: '),
    OddShard('HTML error page', lambda path: path.write_bytes(b'<html>404</html>' * 99), 0, 'cannot be read: '),
    OddShard('compressed IPC stream', arrow(TWO, compression='zstd'), 0, 'is compressed, so that no row can be read'),
]
