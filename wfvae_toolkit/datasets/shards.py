"""Pictures in tar shards, read at any position."""

import collections
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np

from ..registry import DATASETS
from ..utils.errors import SettingError, is_number
from .base import ImageDataset
from .extras import Mask, check_keys
from .images import MAX_PIXELS, BadImage, readable_extensions
from .order import EpochOrder, WindowOrder
from .scan import SHOWN, count_kinds
from .shard_files import find_files
from .shard_index import open_index
from .tar_members import BLOCK

INDEX = 'shards.wfvae_index'
RECORD = 'make_shards.json'  # of tools/make_shards.py


@DATASETS.register_module()
class ImageShards(ImageDataset):
    """The pictures in tar shards, in the layout of WebDataset: members of one key are one sample.

    The key is the path up to the first dot of the name, the rest is the extension: ``000012.jpg``, ``000012.json`` and
    ``000012.txt`` are one sample, as img2dataset writes them. Shards are sorted by name, and their samples have the
    order of the tar file. An index says where each member lies, so that any position is read without those before it.
    It is made at the first start, and again for shards that have changed.

    Args:
        data_root (str | Path): a folder, one tar file, or a pattern such as ``photos/{00000..00127}.tar``.
        extensions (list[str]): those of the picture, in any case; None: those of the formats that the installed Pillow
            decodes. A key needs exactly one such member; `remarks` counts what is passed over.
        mask_keys (list[str]): extensions of members that hold a `Mask`, such as ``'mask.png'``. The extra field has the
            name before the last dot: ``'mask'``.
        extra_keys (list[str]): ``'txt'`` is the text of that member; any other name is a key of the JSON object in the
            member with the extension ``json``, and its value a string, a number or a list of numbers.
        index_folder (str | Path): where the index is kept; None: beside the shards.
        shuffle_window (int): number of shards that are mixed at a time, see `WindowOrder`. Storage then reads each
            shard once an epoch, in one stretch. None: all are mixed.
        option (str): name of the setting that holds ``data_root``, for messages.
        pipeline, on_bad, background, max_pixels, cache_mib, decoder, convert_to_srgb: see `ImageDataset`.

    Raises:
        MissingFile: there is nothing at ``data_root``.
        SettingError: it holds no picture.
    """

    def __init__(self, data_root: str | Path, pipeline=(), extensions: list | None = None, on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact', convert_to_srgb=False, mask_keys: list = (), extra_keys: list = (),
                 index_folder: str | Path | None = None, shuffle_window: int | None = None,
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        self.is_scanned = Path(data_root).expanduser().is_dir()
        super().__init__(data_root, pipeline, on_bad, background, max_pixels, cache_mib, decoder, convert_to_srgb)
        if not (shuffle_window is None or is_number(shuffle_window, 1, whole=True)):
            raise SettingError(f'shuffle_window={shuffle_window!r}: use a number of shards, at least 1, or None to mix '
                               'all')
        self.mask_keys, self.extra_keys = check_keys(mask_keys, extra_keys)
        self.shuffle_window = shuffle_window
        self.files, self._other_files = find_files(data_root, 'tar', 'tar shard', option)
        for name, kind in ((INDEX, '.wfvae_index'), (RECORD, '.json')):
            self._other_files -= collections.Counter({kind: (self.files.root / name).is_file()})
        self.data_root = self.files.root
        self.index = open_index(self.files, _index_path(data_root, self.files, index_folder))
        self._endings = {ending.lower().lstrip('.') for ending in extensions or readable_extensions()}
        self.passed_over = collections.Counter()
        self._members = self._choose()
        # Where the members and the samples of each shard begin.
        self._first_members = self.index.key_members[self.index.shard_keys]
        self._first_samples = np.searchsorted(self._members, self._first_members)
        if not len(self):
            raise SettingError('; '.join([
                f'no picture in the {len(self.files.names)} shards of {str(data_root)!r} ({option}); members are read '
                f'whose extension is one of {", ".join(sorted(self._endings))}; the shards hold '
                f'{", ".join(sorted(self.index.extensions)[:SHOWN]) or "none with an extension"}', *self.remarks()]))

    def __len__(self):
        return len(self._members)

    def path(self, index):
        """Name of a sample: its shard, and the picture's name in it, such as ``00000.tar/000000012.jpg``."""
        member = self._members[range(len(self))[index]]  # the range raises IndexError
        return f'{self.files.names[self._shard(member)]}/{self._name(member)}'

    def read(self, index):
        return self._content(self._members[index])

    def file_state(self, index):
        return list(self.files.state(self._shard(self._members[index])))

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

    def remarks(self):
        """Lines on members that are not used, and on shards that are cut or damaged."""
        lines = []
        for what, counts in (('members', self.passed_over), ('files', self._other_files)):
            if counts:
                lines.append(f'{self.data_root}: {len(self)} pictures in {len(self.files.names)} shards; '
                             f'{counts.total()} other {what} are passed over: {count_kinds(counts)}')
        empty = [shard.name for shard, count in zip(self.index.shards, np.diff(self._first_samples), strict=True)
                 if not (count or shard.damage)]
        if empty:
            lines.append(f'{self.data_root}: {len(empty)} of the {len(self.files.names)} shards hold no picture, such '
                         f'as {empty[0]}')
        damaged = [shard for shard in self.index.shards if shard.damage]
        lines += [f'{self.data_root / shard.name}: {shard.damage}; {self._held(shard)}' for shard in damaged[:SHOWN]]
        if damaged[SHOWN:]:
            lines.append(f'{len(damaged) - SHOWN} further shards are cut or damaged')
        return lines

    def _held(self, shard):
        number = self.index.shards.index(shard)
        count = self._first_samples[number + 1] - self._first_samples[number]
        return f'the {count} pictures before that are used' if count else 'no picture of it is used'

    def order_of(self, length, words, shuffle):
        if self.shuffle_window is None or not shuffle:
            return EpochOrder(length, words, shuffle)
        return WindowOrder(np.diff(np.minimum(self._first_samples, length)), words, self.shuffle_window)

    def _choose(self):
        """Numbers of the members that are pictures; counts what is passed over."""
        index = self.index
        for shard in index.shards:
            self.passed_over.update(shard.passed_over)
        if not len(index.member_start):
            return np.zeros(0, np.int64)
        is_picture, pictures = self._count(self._endings)
        self.passed_over['keys without a picture'] = int((pictures == 0).sum())
        self.passed_over['keys with several pictures'] = int((pictures > 1).sum())
        used = pictures == 1
        wanted = [*self.mask_keys, *(key if key == 'txt' else 'json' for key in self.extra_keys)]
        for ending in dict.fromkeys(wanted):
            lacking = used & (self._count({ending})[1] != 1)
            self.passed_over[f'keys without one .{ending}'] = int(lacking.sum())
            used &= ~lacking
        self.passed_over = +self.passed_over  # without zeros
        members = np.flatnonzero(is_picture)
        return members[used[np.searchsorted(index.key_members, members, 'right') - 1]]

    def _count(self, endings):
        """Which members have one of the extensions, and how many of each key."""
        chosen = np.array([ending.lower() in endings for ending in self.index.extensions])
        of_members = chosen[self.index.member_extension]
        return of_members, np.add.reduceat(of_members, self.index.key_members[:-1], dtype=np.int64)

    def _shard(self, member):
        return int(np.searchsorted(self._first_members, member, 'right')) - 1

    def _key(self, member):
        return int(np.searchsorted(self.index.key_members, member, 'right')) - 1

    def _name(self, member):
        return f'{self.index.key(self._key(member))}.{self.index.extension(member)}'

    def _beside(self, index, ending):
        """Number of the member of the same key with an extension, None if there is none."""
        key = self._key(self._members[index])
        members = range(*self.index.key_members[key:key + 2])
        return next((member for member in members if self.index.extension(member).lower() == ending), None)

    def _content(self, member):
        """Bytes of a member; SettingError if its shard is no longer the one that was indexed."""
        shard, size = self._shard(member), int(self.index.member_size[member])
        data = self.files.read(shard, int(self.index.member_start[member]) - BLOCK, BLOCK + size)
        if len(data) != BLOCK + size or zlib.crc32(data[:BLOCK]) != self.index.member_crc32[member]:
            raise SettingError(f'{self.files.path(shard)} has changed since it was indexed: start again')
        return data[BLOCK:]


def _index_path(data_root, files, folder):
    """Path of the index: beside the shards, or in ``folder`` under a name of its own."""
    root = Path(data_root).expanduser()
    beside = root / INDEX if root.is_dir() else files.root / f'{root.name}.wfvae_index'
    if folder is None:
        return beside
    digest = hashlib.blake2b(str(root.absolute()).encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()
    return Path(folder).expanduser() / f'{root.stem or "shards"}-{digest}.wfvae_index'
