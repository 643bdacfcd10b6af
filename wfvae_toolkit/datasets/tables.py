"""Pictures in parquet and Arrow files, read at any position."""

import collections
import json
import zlib
from pathlib import Path

import numpy as np

from ..registry import DATASETS
from ..utils.errors import SettingError
from ..utils.urls import is_url
from .extras import Mask, check_keys
from .images import MAX_PIXELS, BadImage
from .indexed import IndexedImages, index_path
from .shard_files import ShardFiles, find_files
from .table_index import CHECKED, Arrow, Parquet, import_pyarrow, index_rows, is_parquet, picture_values

_GROUPS = 2  # row groups of compressed pictures that a process keeps, unless more are mixed
_ROWS = 64  # row groups of other columns that a process keeps


@DATASETS.register_module()
class ImageTable(IndexedImages):
    """The pictures in a column of parquet files, as Hugging Face's data sets have them, or of ``save_to_disk``.

    Files are sorted by name; their rows keep their order. An index says where each picture lies. It is made at the
    first start, which reads all pictures once, and again for files that have changed. A column without compression, as
    `datasets` writes it now, is then read picture by picture. A compressed one is read a row group at a time: set
    ``shuffle_window``, or convert it by ``tools/make_shards.py``.

    Args:
        data_root (str | Path): a folder, one ``.parquet`` or ``.arrow`` file, or a pattern such as
            ``train-{00000..00041}-of-00042.parquet``; or the URL of parquet files: ``s3://bucket/photos``.
        column (str): name of the pictures' column; None: the only one that can hold pictures. Such a column is a struct
            with a field ``bytes``, or binary.
        mask_keys (list[str]): columns that hold a `Mask` in the same way; each is an extra field of the sample.
        extra_keys (list[str]): columns whose value, a string, a number or a list of numbers, is an extra field.
        index_folder (str | Path): where the index is kept; None: beside the files.
        shuffle_window (int): number of files that are mixed at a time, of row groups where the column is compressed;
            see `WindowOrder`. A process keeps so many row groups. None: all are mixed.
        remote (dict): settings of data by URL, see `RemoteSettings`: ``cache_folder``, ``cache_gb``, ``deadline_s``,
            ``read_ahead_mb`` and ``storage_options``.
        option (str): name of the setting that holds ``data_root``, for messages.
        pipeline, on_bad, background, max_pixels, cache_mib, decoder, convert_to_srgb: see `ImageDataset`.

    Raises:
        MissingFile: there is nothing at ``data_root``.
        MissingLibrary: pyarrow is not installed.
        SettingError: it holds no picture, or a column is missing.
        StorageError: a URL cannot be reached.
    """

    unit, rows, entries = 'file', 'rows', 'rows'

    def __init__(self, data_root: str | Path, pipeline=(), column: str | None = None, on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact', convert_to_srgb=False, mask_keys: list = (), extra_keys: list = (),
                 index_folder: str | Path | None = None, shuffle_window: int | None = None,
                 remote: dict | None = None,
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        import_pyarrow()
        self.mask_keys, self.extra_keys = check_keys(mask_keys, extra_keys)
        local = not is_url(data_root)
        files, others = find_files(data_root, ('parquet', 'arrow') if local else ('parquet',), 'table', option, remote)
        if local:
            files, others = _saved_files(files, others)
        self._readers, self._pictures, self._rows = {}, collections.OrderedDict(), collections.OrderedDict()
        self.column = column
        super().__init__(
            data_root, files, others, (index_path(data_root, files, index_folder, 'tables'), index_rows), mask_keys,
            shuffle_window, option, pipeline=pipeline, on_bad=on_bad, background=background, max_pixels=max_pixels,
            cache_mib=cache_mib, decoder=decoder, convert_to_srgb=convert_to_srgb)
        names = self._reader(self._shard(self._members[0])).names
        lacking = sorted(set(self.extra_keys) - set(names))
        if lacking:
            raise SettingError(f'extra_keys: there is no column {lacking[0]!r} in {str(data_root)!r}; its columns are '
                               f'{", ".join(names)}')

    def __getstate__(self):
        kept = {name: collections.OrderedDict() for name in ('_readers', '_pictures', '_rows')}
        return {**vars(self), **kept}

    def fields(self, index):
        """The values of a row in the columns that hold no pictures, a dict; ``path`` as the picture's struct has it."""
        reader = self._reader(self._shard(self._members[index]))
        leaf = [f'{self.column}.path'] if f'{self.column}.path' in reader.leaves else []
        row = self._row(index, [name for name in reader.names if name not in self.index.extensions] + leaf)
        path = (row.pop(self.column, None) or {}).get('path')
        return row if path is None else {**row, 'path': path}

    def extras(self, index):
        """The fields of ``mask_keys`` and ``extra_keys``."""
        masks = {key: Mask(self._content(self._beside(index, key))) for key in self.mask_keys}
        return {**masks, **(self._row(index, self.extra_keys) if self.extra_keys else {})}

    @property
    def has_extras(self):
        """Whether samples have extra fields."""
        return bool(self.mask_keys or self.extra_keys)

    def _choose(self, beside):
        columns = sorted(set(self.index.extensions) - set(self.mask_keys))
        if self.column is None and len(columns) > 1:
            raise SettingError(f'the columns {", ".join(columns)} can hold pictures: set column to one of them')
        if self.column is None and columns:
            self.column = columns[0]
        return super()._choose(beside)

    def _is_picture(self, extension):
        return extension == self.column

    def _describe_extensions(self):
        held = ', '.join(sorted(self.index.extensions)) or 'none'
        return f'column={self.column!r}; columns that hold pictures, as binary or as a struct with bytes: {held}'

    def _parts(self):
        in_groups = self.index.member_size[self._members] < 0
        if not in_groups.any():
            return super()._parts()
        groups = np.where(in_groups, self.index.member_start[self._members], -1)
        begins = np.flatnonzero(np.diff(groups)) + 1
        return np.unique(np.concatenate([self._first_samples, begins]))

    def _content(self, member):
        shard = self._shard(member)
        start, size = int(self.index.member_start[member]), int(self.index.member_size[member])
        if size < 0:
            column = self.index.extension(member)
            keep = max(_GROUPS, self.shuffle_window or 0)
            group = self._group(self._pictures, keep, shard, start, [column])
            return picture_values(group.column(column).slice(-1 - size, 1))[0][0].as_py()
        data = self.files.read(shard, start, size)
        if len(data) != size or zlib.crc32(data[:CHECKED]) != self.index.member_crc32[member]:
            raise self._has_changed(shard)
        return data

    def _row(self, index, names):
        """Values of a row in some columns, a dict."""
        member = self._members[index]
        shard, row = self._shard(member), int(self._name(member))
        ends = self._reader(shard).ends
        group = int(np.searchsorted(ends, row, 'right'))
        first = int(ends[group - 1]) if group else 0
        found = self._group(self._rows, _ROWS, shard, group, names).slice(row - first, 1).to_pylist()[0]
        lacking = [name for name in names if name.partition('.')[0] not in found]
        if lacking:
            raise BadImage(None, f'its file has no column {lacking[0]!r}')
        return found

    def _group(self, kept, keep, shard, group, columns):
        """Some columns of a row group, among those that are kept; BadImage if they cannot be read."""
        key = shard, group, tuple(columns)
        if key not in kept:
            if len(kept) >= keep:
                kept.popitem(last=False)
            try:
                kept[key] = self._reader(shard).read(group, columns)
            except (import_pyarrow().ArrowException, OSError) as error:
                raise BadImage(None, f'row group {group} cannot be read: {" ".join(str(error).split())}') from error
        kept.move_to_end(key)
        return kept[key]

    def _reader(self, shard):
        if shard not in self._readers:
            kind = Parquet if is_parquet(self.files.names[shard]) else Arrow
            self._readers[shard] = kind(self.files, shard)
        return self._readers[shard]


def _saved_files(files, others):
    """Without the Arrow files that ``save_to_disk`` did not name, such as caches; ``state.json`` lists the others."""
    kept = list(files.names)
    for state in sorted({path.parent / 'state.json' for path in map(Path, files.names)}):
        try:
            rows = json.loads((files.root / state).read_text(encoding='utf-8'))['_data_files']
            named = {(state.parent / row['filename']).as_posix() for row in rows}
        except FileNotFoundError:
            continue
        except (ValueError, LookupError, TypeError) as error:
            raise SettingError(f'{files.root / state} names no files of a saved data set ({error})') from error
        here = {name for name in kept if Path(name).parent == state.parent}
        kept = [name for name in kept if name not in here - named]
        others = others + collections.Counter({'.arrow that state.json does not name': len(here - named)})
        others -= collections.Counter({'.json': 1 + (files.root / state.parent / 'dataset_info.json').is_file()})
    return ShardFiles(files.root, kept), others
