"""Base of datasets whose files hold many pictures each, with an index of where each lies."""

import collections
import contextlib
import hashlib
from pathlib import Path

import numpy as np

from ..utils.errors import SettingError, is_number
from ..utils.urls import is_url, shown_url
from .base import ImageDataset
from .images import BadImage, read_size
from .order import EpochOrder, WindowOrder
from .scan import SHOWN, count_kinds
from .shard_index import open_index

_HEAD = 2**16  # bytes that hold the header of nearly every JPEG


class IndexedImages(ImageDataset):
    """Pictures in the files of a `ShardIndex`, in the order of the files and of the keys in them.

    Args:
        data_root (str | Path): what the user gave.
        files (ShardFiles): of `find_files`.
        other_files (Counter): kinds of files that are not used.
        index (str | Path, callable): path of the index, and the function that makes that of one file; see `open_index`.
        beside (list[str]): extensions that every sample needs as well.
        shuffle_window (int): number of parts that are mixed at a time, None for all; see `WindowOrder`.
        option (str): name of the setting that holds ``data_root``, for messages.
        **settings: see `ImageDataset`.

    Raises:
        SettingError: there is no picture.
    """

    unit, rows, entries = 'shard', 'keys', 'members'  # what messages call a file, a sample and a part of it

    def __init__(self, data_root, files, other_files, index, beside, shuffle_window, option, **settings):
        super().__init__(files.root, **settings)
        if not (shuffle_window is None or is_number(shuffle_window, 1, whole=True)):
            raise SettingError(f'shuffle_window={shuffle_window!r}: use a number from 1 of {self.unit}s that are mixed '
                               'at a time, or None to mix all')
        self.data_root = files.root
        self.is_scanned = Path(data_root).expanduser().is_dir()
        self.files, self._other_files = files, other_files
        files.in_stretches = shuffle_window is not None
        self.shuffle_window = shuffle_window
        self.index = open_index(files, *index)
        self.passed_over = collections.Counter()
        self._members = self._choose(beside)
        # Where the members and the samples of each file begin.
        self._first_members = self.index.key_members[self.index.shard_keys]
        self._first_samples = np.searchsorted(self._members, self._first_members)
        if not len(self):
            shown = str(shown_url(data_root))
            raise SettingError('; '.join([f'no picture in the {len(files.names)} {self.unit}s of {shown!r} ({option}); '
                                          f'{self._describe_extensions()}', *self.remarks()]))

    def __len__(self):
        return len(self._members)

    def path(self, index):
        """Name of a sample: its file, and its name in it, such as ``00000.tar/000000012.jpg``."""
        member = self._members[range(len(self))[index]]  # the range raises IndexError
        return f'{self.files.names[self._shard(member)]}/{self._name(member)}'

    def read(self, index):
        return self._content(self._members[index])

    def file_state(self, index):
        return list(self.files.state(self._shard(self._members[index])))

    def picture_size(self, index):
        head = self._head(self._members[index])
        if head[:2] == b'\xff\xd8':  # a JPEG, which has everything that counts before its picture data
            with contextlib.suppress(BadImage):
                return read_size(head, self.max_pixels)
        return super().picture_size(index)

    def remarks(self):
        """Lines on what is not used, and on files that are cut or damaged."""
        lines, shards = self.files.remarks(self.shuffle_window), self.index.shards
        for what, counts in ((self.entries, self.passed_over), ('files', self._other_files)):
            if counts:
                lines.append(f'{self.data_root}: {len(self)} pictures in {len(shards)} {self.unit}s; {counts.total()} '
                             f'other {what} are passed over: {count_kinds(counts)}')
        counts = np.diff(self._first_samples)
        empty = [shard.name for shard, count in zip(shards, counts, strict=True) if not (count or shard.damage)]
        if empty:
            lines.append(f'{self.data_root}: {len(empty)} of the {len(shards)} {self.unit}s hold no picture, such as '
                         f'{empty[0]}')
        damaged = [(shard, count) for shard, count in zip(shards, counts, strict=True) if shard.damage]
        for shard, count in damaged[:SHOWN]:
            held = f'the {count} pictures before that are used' if count else 'no picture of it is used'
            lines.append(f'{self.data_root / shard.name}: {shard.damage}; {held}')
        if damaged[SHOWN:]:
            lines.append(f'{len(damaged) - SHOWN} further {self.unit}s are cut or damaged')
        return lines

    @property
    def deadline_s(self):
        """Longest time in seconds that a read over a network may take; 0 for files on disks."""
        return self.files.deadline_s

    def closing_remarks(self):
        """Lines on what was loaded over a network, for the end of a training."""
        return self.files.closing_remarks()

    def order_of(self, length, words, shuffle):
        if self.shuffle_window is None or not shuffle:
            return EpochOrder(length, words, shuffle)
        return WindowOrder(np.diff(np.minimum(self._parts(), length)), words, self.shuffle_window)

    def _parts(self):
        """Numbers of the samples with which the parts that `WindowOrder` mixes begin, and of the end."""
        return self._first_samples

    def _is_picture(self, extension):
        """Whether a member with this extension is the picture of its key."""
        raise NotImplementedError

    def _describe_extensions(self):
        """End of the message that there is no picture."""
        raise NotImplementedError

    def _content(self, member):
        """Bytes of a member."""
        raise NotImplementedError

    def _head(self, member):
        """The first bytes of a member, none where they cannot be read alone."""
        start, size = int(self.index.member_start[member]), int(self.index.member_size[member])
        return self.files.read(self._shard(member), start, min(size, _HEAD)) if size > 0 else b''

    def _name(self, member):
        """Name of a member's sample in its file."""
        return self.index.key(self._key(member))

    def _choose(self, beside):
        """Numbers of the members that are pictures; counts what is passed over."""
        for shard in self.index.shards:
            self.passed_over.update(shard.passed_over)
        if not len(self.index.member_start):
            return np.zeros(0, np.int64)
        is_picture, pictures = self._count(self._is_picture)
        used = pictures == 1
        self.passed_over[f'{self.rows} without a picture'] += int((pictures == 0).sum())
        self.passed_over[f'{self.rows} with several pictures'] += int((pictures > 1).sum())
        for ending in dict.fromkeys(beside):
            lacking = used & (self._count(lambda extension, ending=ending: self._equal(extension, ending))[1] != 1)
            self.passed_over[f'{self.rows} without {ending}'] += int(lacking.sum())
            used &= ~lacking
        self.passed_over = +self.passed_over  # without zeros
        members = np.flatnonzero(is_picture)
        return members[used[np.searchsorted(self.index.key_members, members, 'right') - 1]]

    def _count(self, fits):
        """Which members have an extension that fits, and how many of each key."""
        of_members = np.array([fits(extension) for extension in self.index.extensions])[self.index.member_extension]
        return of_members, np.add.reduceat(of_members, self.index.key_members[:-1], dtype=np.int64)

    def _equal(self, extension, wanted):
        return extension == wanted

    def _shard(self, member):
        return int(np.searchsorted(self._first_members, member, 'right')) - 1

    def _key(self, member):
        return int(np.searchsorted(self.index.key_members, member, 'right')) - 1

    def _beside(self, index, ending):
        """Number of the member of the same key with an extension, None if there is none."""
        key = self._key(self._members[index])
        members = range(*self.index.key_members[key:key + 2])
        return next((member for member in members if self._equal(self.index.extension(member), ending)), None)

    def _has_changed(self, shard):
        return SettingError(f'{self.files.path(shard)} has changed since it was indexed: start again')


def index_path(data_root, files, folder, name):
    """Path of an index: beside the files, or in ``folder`` under a name of its own."""
    root, folder = Path(data_root).expanduser(), folder or files.index_folder
    if folder is None:
        return root / f'{name}.wfvae_index' if root.is_dir() else files.root / f'{root.name}.{name}.wfvae_index'
    place = shown_url(data_root) if is_url(data_root) else root.absolute()
    digest = hashlib.blake2b(f'{place} {name}'.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()
    root = Path(str(place))
    return Path(folder).expanduser() / f'{root.stem or "files"}-{digest}.wfvae_index'
