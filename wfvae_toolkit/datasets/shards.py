"""Pictures in tar shards, read at any position."""

import collections
import json
import zlib
from pathlib import Path

from ..registry import DATASETS
from .extras import Mask, check_keys
from .images import MAX_PIXELS, BadImage, readable_extensions
from .indexed import IndexedImages, index_path
from .scan import SHOWN
from .shard_files import ShardFiles, find_files
from .shard_index import index_tar
from .tar_members import BLOCK

RECORD = 'make_shards.json'  # of tools/make_shards.py


@DATASETS.register_module()
class ImageShards(IndexedImages):
    """The pictures in tar shards, in the layout of WebDataset: members of one key are one sample.

    The key is the path up to the first dot of the name, the rest is the extension: ``000012.jpg``, ``000012.json`` and
    ``000012.txt`` are one sample, as img2dataset writes them. Shards are sorted by name, and their samples have the
    order of the tar file. An index says where each member lies, so that any position is read without those before it.
    It is made at the first start, and again for shards that have changed.

    Args:
        data_root (str | Path): a folder, one tar file, or a pattern such as ``photos/{00000..00127}.tar``;
            or their URL: ``https://host/photos/{00000..00127}.tar``, ``s3://bucket/photos``.
        extensions (list[str]): those of the picture, in any case; None: those of the formats that the installed Pillow
            decodes. A key needs exactly one such member; `remarks` counts what is passed over.
        mask_keys (list[str]): extensions of members that hold a `Mask`, such as ``'mask.png'``. The extra field has the
            name before the last dot: ``'mask'``.
        extra_keys (list[str]): ``'txt'`` is the text of that member; any other name is a key of the JSON object in the
            member with the extension ``json``, and its value a string, a number or a list of numbers.
        index_folder (str | Path): where the index is kept; None: beside the shards.
        shuffle_window (int): number of shards that are mixed at a time, see `WindowOrder`. Storage then reads each
            shard once an epoch, in one stretch. None: all are mixed.
        remote (dict): settings of data by URL, see `RemoteSettings`: ``cache_folder``, ``cache_gb``, ``deadline_s``,
            ``read_ahead_mb`` and ``storage_options``.
        option (str): name of the setting that holds ``data_root``, for messages.
        pipeline, on_bad, background, max_pixels, cache_mib, decoder, convert_to_srgb: see `ImageDataset`.

    Raises:
        MissingFile: there is nothing at ``data_root``.
        SettingError: it holds no picture.
        StorageError: a URL cannot be reached.
    """

    def __init__(self, data_root: str | Path, pipeline=(), extensions: list | None = None, on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact', convert_to_srgb=False, mask_keys: list = (), extra_keys: list = (),
                 index_folder: str | Path | None = None, shuffle_window: int | None = None,
                 remote: dict | None = None,
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        self.mask_keys, self.extra_keys = check_keys(mask_keys, extra_keys)
        files, others = find_files(data_root, ('tar',), 'tar shard', option, remote)
        if isinstance(files, ShardFiles):
            others -= collections.Counter({'.json': (files.root / RECORD).is_file()})
        self._endings = {ending.lower().lstrip('.') for ending in extensions or readable_extensions()}
        super().__init__(
            data_root, files, others, (index_path(data_root, files, index_folder, 'shards'), index_tar),
            [*mask_keys, *('txt' if key == 'txt' else 'json' for key in extra_keys)], shuffle_window, option,
            pipeline=pipeline, on_bad=on_bad, background=background, max_pixels=max_pixels, cache_mib=cache_mib,
            decoder=decoder, convert_to_srgb=convert_to_srgb)

    def fields(self, index):
        """The JSON object beside a picture, a dict; {} if there is none.

        Raises:
            BadImage: it is no JSON object.
        """
        member = self._beside(index, 'json')
        if member is None:
            return {}
        try:
            row = json.loads(self._content(member))
        except (ValueError, RecursionError) as error:
            raise BadImage(None, f'json: {error}') from error
        if not isinstance(row, dict):
            raise BadImage(None, f'json: {row!r:.40} is not a JSON object')
        return row

    def others(self, index):
        """Extension -> content of the members of a key beside its picture and its JSON object."""
        own = self._members[index]
        members = range(*self.index.key_members[self._key(own):self._key(own) + 2])
        return {self.index.extension(member): self._content(member) for member in members
                if member != own and self.index.extension(member).lower() != 'json'}

    def extras(self, index):
        """The fields of ``mask_keys`` and ``extra_keys``."""
        extras = {key.rpartition('.')[0] or key: Mask(self._content(self._beside(index, key)))
                  for key in self.mask_keys}
        fields = self.fields(index) if set(self.extra_keys) - {'txt'} else {}
        for key in self.extra_keys:
            if key == 'txt':
                extras[key] = self._content(self._beside(index, key)).decode('utf-8', 'replace')
            elif key in fields:
                extras[key] = fields[key]
            else:
                raise BadImage(None, f'json: lacks the key {key!r}, which extra_keys names')
        return extras

    @property
    def has_extras(self):
        """Whether samples have extra fields."""
        return bool(self.mask_keys or self.extra_keys)

    def _is_picture(self, extension):
        return extension.lower() in self._endings

    def _describe_extensions(self):
        return (f'members are read whose extension is one of {", ".join(sorted(self._endings))}; the shards hold '
                f'{", ".join(sorted(self.index.extensions)[:SHOWN]) or "none with an extension"}')

    def _equal(self, extension, wanted):
        return extension.lower() == wanted

    def _name(self, member):
        return f'{super()._name(member)}.{self.index.extension(member)}'

    def _content(self, member):
        """Bytes of a member; SettingError if its shard is no longer the one that was indexed."""
        shard, size = self._shard(member), int(self.index.member_size[member])
        data = self.files.read(shard, int(self.index.member_start[member]) - BLOCK, BLOCK + size)
        if len(data) != BLOCK + size or zlib.crc32(data[:BLOCK]) != self.index.member_crc32[member]:
            raise self._has_changed(shard)
        return data[BLOCK:]
