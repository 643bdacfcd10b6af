"""Where the pictures of parquet files and Arrow files lie.

The column of a picture is a struct with a field ``bytes``, as Hugging Face's data sets have it, or binary. Every such
column is indexed. In an Arrow file, and in a parquet column without compression, as `datasets` writes it now, the bytes
of a picture lie in one piece of the file, which is then read alone. A compressed column is read by row group.

In the `ShardIndex` a row that holds a picture is a key, ``000000012``, and the picture in each column a member, whose
extension is the name of the column. For a compressed column ``member_start`` is the row group, and ``member_size`` is
-1 - the row in it.
"""

import collections
import zlib
from array import array

import numpy as np

from ..utils.errors import import_extra
from .shard_index import Shard, index_of

CHECKED = 64  # bytes at the start of a picture whose checksum tells whether the file is still the one that was indexed


def import_pyarrow(module='pyarrow'):
    """pyarrow, or its module; MissingLibrary names the extra."""
    import_extra('pyarrow', 'parquet')
    return import_extra(module, 'parquet')


def index_rows(files, number, state):
    """`ShardIndex` of one parquet or Arrow file."""
    pyarrow = import_pyarrow()
    shard, found = Shard(files.names[number], list(state)), _Found()
    try:
        index = _index_parquet if is_parquet(shard.name) else _index_arrow
        index(files, number, found)
    except (pyarrow.ArrowException, OSError) as error:
        shard.damage = f'cannot be read: {" ".join(str(error).split())[:200]}'
    shard.passed_over = dict(found.passed_over)
    keys = sorted(found.keys)  # a row whose first column is null was met later
    place = np.empty(len(keys), np.int64)
    place[[found.keys[key] for key in keys]] = np.arange(len(keys))
    return index_of(shard, keys, found.columns, place[np.array(found.of_key, np.int64)], found.members)


def is_parquet(name):
    return name.lower().endswith('.parquet')


class Parquet:
    """A parquet file: names of its columns and leaves, and the number of rows up to the end of each row group."""

    def __init__(self, files, number):
        self.file = import_pyarrow('pyarrow.parquet').ParquetFile(files.open(number))
        self.schema, self.names = self.file.schema_arrow, self.file.schema_arrow.names
        self.leaves = {self.file.schema.column(leaf).path: leaf for leaf in range(len(self.file.schema))}
        self.groups = [self.file.metadata.row_group(group) for group in range(self.file.num_row_groups)]
        self.ends = np.cumsum([group.num_rows for group in self.groups], dtype=np.int64)

    def read(self, group, columns):
        """Table of some columns, or leaves such as ``image.path``, of a row group."""
        return self.file.read_row_group(group, columns=columns, use_threads=False)


class Arrow:
    """A file of Arrow's IPC stream, as `datasets` caches and saves it, mapped into memory: one row group."""

    def __init__(self, files, number):
        ipc = import_pyarrow('pyarrow.ipc')
        self.content = import_pyarrow().memory_map(str(files.path(number))).read_buffer()
        self.table = ipc.open_stream(self.content).read_all()
        self.schema, self.names, self.leaves = self.table.schema, self.table.schema.names, {}
        self.ends = np.array([self.table.num_rows])

    def read(self, group, columns):
        """Table of some columns."""
        return self.table.select(columns)


def picture_columns(schema):
    """Names of the columns of a schema that can hold pictures -> path of the leaf with the bytes."""
    types = import_pyarrow('pyarrow.types')

    def is_bytes(kind):
        return types.is_binary(kind) or types.is_large_binary(kind)
    found = {field.name: field.name for field in schema if is_bytes(field.type)}
    structs = [field for field in schema if types.is_struct(field.type) and field.type.get_field_index('bytes') >= 0]
    return found | {field.name: f'{field.name}.bytes' for field in structs if is_bytes(field.type.field('bytes').type)}


def picture_values(column):
    """Column of pictures -> list of arrays of their bytes, one for each chunk."""
    types, compute = import_pyarrow('pyarrow.types'), import_pyarrow('pyarrow.compute')
    chunks = column.chunks if hasattr(column, 'chunks') else [column]
    return [compute.struct_field(chunk, 'bytes') if types.is_struct(chunk.type) else chunk for chunk in chunks]


class _Found:
    """What a scan has found; members of several columns and row groups."""

    def __init__(self):
        self.keys, self.columns, self.passed_over = {}, {}, collections.Counter()
        self.of_key = array('q')
        self.members = {'member_start': array('q'), 'member_size': array('q'), 'member_crc32': array('L'),
                        'member_extension': array('L')}

    def add(self, row, column, start, size, crc32):
        self.of_key.append(self.keys.setdefault(b'%09d' % row, len(self.keys)))
        extension = self.columns.setdefault(column.encode(), len(self.columns))
        for values, value in zip(self.members.values(), (start, size, crc32, extension), strict=True):
            values.append(value)


def _index_parquet(files, number, found):
    table, first = Parquet(files, number), 0
    for group, metadata in enumerate(table.groups):
        rows = range(first, first + metadata.num_rows)
        for name, path in picture_columns(table.schema).items():
            _add_chunk(files, number, table, group, name, path, metadata.column(table.leaves[path]), rows, found)
        first += metadata.num_rows
    _count_nulls(found, first)


def _add_chunk(files, number, table, group, name, path, chunk, rows, found):
    """The pictures of one column in one row group."""
    arrow = import_pyarrow()
    in_one_piece = (chunk.compression == 'UNCOMPRESSED' and not chunk.has_dictionary_page
                    and set(chunk.encodings) <= {'PLAIN', 'RLE', 'BIT_PACKED'})
    statistics = chunk.statistics
    if not in_one_piece and statistics is not None and statistics.null_count == 0:
        for row in rows:  # no need to read it now
            found.add(row, name, group, -1 - (row - rows.start), 0)
        return
    try:
        column = table.read(group, [path]).column(name)
    except (arrow.ArrowException, OSError):
        found.passed_over[f'rows of a damaged row group, column {name}'] += len(rows)
        return
    raw = files.read(number, chunk.data_page_offset, chunk.total_compressed_size) if in_one_piece else b''
    row, place = rows.start, 0
    for values in picture_values(column):
        for value in values:
            content = value.as_py()
            if content is not None:
                # A plain value follows its length. Between pages there is a header, which the search leaps.
                plain = len(content).to_bytes(4, 'little') + content
                at = place if raw.startswith(plain, place) else raw.find(plain, place)
                if in_one_piece and at >= 0:
                    found.add(row, name, chunk.data_page_offset + at + 4, len(content), zlib.crc32(content[:CHECKED]))
                    place = at + len(plain)
                else:
                    found.add(row, name, group, -1 - (row - rows.start), 0)
            row += 1


def _index_arrow(files, number, found):
    table = Arrow(files, number)
    for name in picture_columns(table.schema):
        first = 0
        for values in picture_values(table.table.column(name)):
            _add_values(values, table.content, name, first, found)
            first += len(values)
    _count_nulls(found, table.table.num_rows)


def _add_values(values, content, name, first, found):
    """The pictures of one chunk, which is a part of the mapped file."""
    arrow = import_pyarrow()
    _, offsets, data = values.buffers()
    held = data is not None and data.size > 0  # else every value is null or empty
    begin = data.address - content.address if held else 0
    if held and not 0 <= begin <= content.size - data.size:
        raise arrow.ArrowInvalid(f'the column {name} is compressed, so that no row can be read alone')
    kind = np.int64 if arrow.types.is_large_binary(values.type) else np.int32
    places = np.frombuffer(offsets, kind)[values.offset:values.offset + len(values) + 1]
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(valid).tolist():
        start, stop = int(places[row]), int(places[row + 1])
        found.add(first + row, name, begin + start, stop - start,
                  zlib.crc32(content[begin + start:begin + min(stop, start + CHECKED)]))


def _count_nulls(found, rows):
    """Rows that hold a picture in no column. Those that lack only one are counted by the dataset."""
    of_damaged = sum(count for kind, count in found.passed_over.items() if kind.startswith('rows of a damaged'))
    found.passed_over['rows without a picture'] += max(0, rows - len(found.keys) - of_damaged)
    found.passed_over = +found.passed_over
