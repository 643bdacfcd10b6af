"""The files that hold many pictures each: found by folder, file or pattern, and read at any place."""

import collections
import itertools
import os
import re
from pathlib import Path

from ..utils.errors import MissingFile, SettingError, import_extra
from ..utils.urls import is_url
from .remote_files import find_remote
from .scan import scan_tree

_OPEN = 64  # files that a process keeps open
_BRACES = re.compile(r'\{([^{}]*)\}')


class ShardFiles:
    """Files under ``root``, read by position.

    Attributes:
        root (Path): the folder.
        names (list[str]): relative to it, POSIX.
    """

    index_folder = None  # indexes are kept beside the files
    deadline_s = 0  # of a read; of disks, the operating system decides

    def __init__(self, root, names):
        self.root, self.names = Path(root), list(names)
        self._open = collections.OrderedDict()

    def __getstate__(self):
        return {**vars(self), '_open': collections.OrderedDict()}

    def path(self, number):
        """Where file ``number`` lies."""
        return self.root / self.names[number]

    def state(self, number):
        """(size in bytes, time of change in ns), which differ once the file has changed.

        Raises:
            MissingFile: it is not there.
        """
        try:
            status = os.stat(self.path(number))
        except FileNotFoundError as error:
            raise MissingFile(f'{self.path(number)} is missing') from error
        return status.st_size, status.st_mtime_ns

    def read(self, number, start, length):
        """Bytes of file ``number``, fewer at its end.

        Raises:
            MissingFile: it is not there any more.
        """
        file = self._open.pop(number, None) or self._opened(number)
        self._open[number] = file
        if hasattr(os, 'pread'):  # a forked process has the same place in the file, which this leaves alone
            return os.pread(file.fileno(), length, start)
        file.seek(start)
        return file.read(length)

    def open(self, number):
        """A file object of pyarrow, which has no position of its own that forked processes would share."""
        return import_extra('pyarrow', 'parquet').OSFile(str(self.path(number)))

    def remarks(self, window):
        """Lines for a log; see `RemoteFiles.remarks`."""
        return []

    closing_remarks = list

    def _opened(self, number):
        if len(self._open) >= _OPEN:
            self._open.popitem(last=False)[1].close()
        try:
            return open(self.path(number), 'rb', buffering=0)
        except FileNotFoundError as error:
            raise MissingFile(f'{self.path(number)} has been removed while it was in use') from error


def find_files(data_root, suffixes, kind, option, remote=None):
    """`ShardFiles` of a folder with subfolders, of one file, or of a pattern, sorted by name; `RemoteFiles` of URLs.

    In a pattern, braces hold a range of numbers or a list: ``'photos/{00000..00127}.tar'``, ``'{a,b}.tar'``.

    Args:
        data_root (str | Path): one of these; ``~`` is the home folder.
        suffixes (tuple of str): of the files in a folder, such as ``('tar',)``.
        kind (str): what such a file is, for messages: ``'tar shard'``.
        option (str): name of the setting that holds ``data_root``, for messages.
        remote (dict): of URLs; see `RemoteSettings`.

    Returns:
        ShardFiles, Counter: the files, and the other files of a folder by kind.

    Raises:
        MissingFile: there is no such folder or file.
        SettingError: the folder holds none.
        StorageError: a URL cannot be reached.
    """
    if is_url(data_root):
        return find_remote(data_root, expand_braces(data_root), suffixes, kind, option, remote)
    if remote is not None:
        raise SettingError(f'remote={remote!r} is for data by URL, and {str(data_root)!r} ({option}) is none: leave it '
                           'out')
    root = Path(data_root).expanduser()
    if is_pattern(root):
        names = expand_braces(str(root))
        folder = Path(os.path.commonpath([Path(name).parent for name in names]))
        lacking = [name for name in names if not os.path.isfile(name)]
        if lacking:
            raise MissingFile(f'{len(lacking)} of the {len(names)} files of {str(data_root)!r} ({option}) are missing, '
                              f'such as {lacking[0]}')
        return ShardFiles(folder, [Path(name).relative_to(folder).as_posix() for name in names]), collections.Counter()
    if root.is_file():
        return ShardFiles(root.parent, [root.name]), collections.Counter()
    if not root.is_dir():
        raise MissingFile(f'there is no {str(data_root)!r}: set {option} to a folder of {kind}s, to one of them, or to '
                          f"a pattern such as 'photos/{{00000..00127}}.{suffixes[0]}'")
    scan = scan_tree(root, suffixes)
    if not scan.paths:
        found = ', '.join(f'{count} {kind}' for kind, count in scan.passed_over.most_common(8))
        packed = ('. A compressed one cannot be read at a position: gunzip it'
                  if scan.passed_over.keys() & {'.gz', '.tgz', '.xz', '.zst', '.bz2'} else '')
        raise SettingError(f'no {kind} (.{", .".join(suffixes)}) under {str(data_root)!r} ({option}); it holds '
                           f'{found or "nothing"}{packed}')
    del scan.passed_over['.wfvae_index']  # indexes of our own
    return ShardFiles(root, scan.paths), scan.passed_over


def is_pattern(path):
    """Whether a path names several files by braces."""
    return bool(_BRACES.search(str(path))) and not os.path.exists(path)


def expand_braces(pattern):
    """'{0..1}{a,b}' -> ['0a', '0b', '1a', '1b']; SettingError for other content of braces."""
    parts = _BRACES.split(pattern)
    choices = [[part] if place % 2 == 0 else _choices(part, pattern) for place, part in enumerate(parts)]
    return [''.join(chosen) for chosen in itertools.product(*choices)]


def _choices(text, pattern):
    low, dots, high = text.partition('..')
    if dots and low.isdigit() and high.isdigit() and int(low) <= int(high):
        return [f'{number:0{len(low)}d}' for number in range(int(low), int(high) + 1)]
    if ',' in text and not dots:
        return text.split(',')
    raise SettingError(f'{pattern!r}: {{{text}}} is no range such as {{00000..00127}}, and no list such as {{a,b}}')
