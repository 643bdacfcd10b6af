"""Parquet and Arrow files that several test files need."""

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from tests.datasets.shard_samples import encoded


def rows_of(numbers, contents=None):
    """A table as Hugging Face's data sets have it; ``contents`` replaces the bytes of a picture by its number."""
    contents = {number: encoded(number) for number in numbers} | (contents or {})
    pictures = [{'bytes': contents[number], 'path': f'{number}.jpg'} for number in numbers]
    return pa.table({
        'image': pa.array(pictures, pa.struct([('bytes', pa.binary()), ('path', pa.string())])),
        'label': pa.array(list(numbers)), 'caption': pa.array([f'text {number}' for number in numbers])})


def write_parquet(path, table, compression='none', **options):
    """A parquet file; a list as ``compression`` would be as `datasets` has it, by column."""
    pq.write_table(table, path, compression=compression, use_dictionary=['caption'], **options)
    return path


def write_arrow(path, table, batch_rows=3, **options):
    """A file of the IPC stream, as `datasets` saves it."""
    with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, batch_rows)
    return path
