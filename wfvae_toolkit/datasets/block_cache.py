"""Blocks of remote files on a local disk, shared by all processes of a machine and bounded in size.

Each version of a remote file has one sparse file: a table with the CRC-32 of each block, 0 for one that is not there,
and the blocks at their places. A block is written before its checksum, and the checksum is compared at every read. A
process that is killed, or two that write the same block, therefore leave nothing that could be taken for content.
"""

import collections
import contextlib
import functools
import hashlib
import os
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple

from ..utils.errors import SettingError
from ..utils.files import write_errors

BLOCK = 2**18  # bytes
_PAGE = 4096  # bytes, of a file system; the first block of a file begins at a multiple of it
_OPEN = 64  # files that a process keeps open
_SUFFIX = '.blocks'
_COUNTS = struct.Struct('<6Q')
_TOUCH_S = 1  # a file in use gets the present time so often: those with the oldest are evicted

_entering = threading.Lock()  # held while a thread opens what its process must have of its own
if hasattr(os, 'register_at_fork'):
    # A fork copies the lock, but not the thread that holds it.
    os.register_at_fork(before=_entering.acquire, after_in_parent=_entering.release, after_in_child=_entering.release)


class CacheCounts(NamedTuple):
    """Sums over all processes that have used a cache folder."""

    held: int = 0  # bytes of blocks in the folder
    evicted_files: int = 0
    evicted: int = 0  # bytes
    loaded: int = 0  # bytes
    requests: int = 0
    retries: int = 0

    def since(self, before):
        """What came after ``before``, beside the bytes that are held."""
        return CacheCounts(self.held, *(now - then for now, then in zip(self[1:], before[1:], strict=True)))


class BlockCache:
    """Blocks by the name of their file, in a folder.

    When ``limit`` would be exceeded, the files that were used longest ago are removed whole, until an eighth of it is
    free.

    Args:
        folder (str | Path): made if missing; any number of processes of one machine may share it.
        limit (int): bytes.

    Raises:
        SettingError: this system has no locks of files, as Windows.
        WriteError: the folder cannot be written.
    """

    def __init__(self, folder, limit):
        self.folder, self.limit = Path(folder), limit
        self._process = None
        self._enter()

    def __getstate__(self):
        return {'folder': self.folder, 'limit': self.limit, '_process': None}

    def file(self, name, blocks):
        """The `BlockFile` of this name, which has so many blocks."""
        self._enter()
        with self._opening:
            file = self._files.pop(name, None)
            if file is None or file.is_gone():
                if len(self._files) >= _OPEN:
                    self._files.popitem(last=False)  # closed once no thread uses it
                file = BlockFile(self.folder / f'{name}{_SUFFIX}', blocks)
            self._files[name] = file
            return file

    @contextlib.contextmanager
    def one_at_a_time(self, name, stretch):
        """Let one thread of one process at a time into the block, for this stretch of a file."""
        self._enter()
        digest = hashlib.blake2b(f'{name} {stretch}'.encode(), digest_size=7).digest()
        place = int.from_bytes(digest, 'big')  # a byte of the file, which is empty
        with self._threads[place % len(self._threads)], _locked(self._stretches, place):
            yield

    def reserve(self, size):
        """Make room for ``size`` more bytes of a file."""
        size += _PAGE  # of the table
        with self._counted() as counts:
            counts['held'] += size
            if counts['held'] > self.limit:
                self._evict(counts, size)

    def count(self, **more):
        """Add to `CacheCounts`."""
        with self._counted() as counts:
            for name, value in more.items():
                counts[name] += value

    def counts(self):
        """`CacheCounts` of the folder."""
        with self._counted() as counts:
            return CacheCounts(**counts)

    def _enter(self):
        """Open what a process must have of its own: a forked one inherits files, but no locks."""
        if self._process == os.getpid():
            return
        try:
            import fcntl  # noqa: F401
        except ImportError as error:
            raise SettingError('data by URL needs locks of files, which Windows lacks: download the files') from error
        with _entering:
            if self._process != os.getpid():  # no other thread has been here
                self._open()

    def _open(self):
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with write_errors(self.folder / 'counts'):
            self._counts = os.open(self.folder / 'counts', os.O_RDWR | os.O_CREAT, 0o666)
            # Never closed while this process uses it: closing any descriptor of it would give up all its locks.
            self._stretches = os.open(self.folder / 'stretches', os.O_RDWR | os.O_CREAT, 0o666)
        self._files = collections.OrderedDict()
        self._counting, self._opening = threading.Lock(), threading.Lock()
        self._threads = [threading.Lock() for _ in range(64)]
        self._process = os.getpid()  # the last: then all of it is there

    @contextlib.contextmanager
    def _counted(self):
        """The counts as a dict, written back at the end."""
        self._enter()
        with self._counting, _locked(self._counts):
            data = os.pread(self._counts, _COUNTS.size, 0)
            counts = CacheCounts(*_COUNTS.unpack(data)) if len(data) == _COUNTS.size else CacheCounts()
            changed = counts._asdict()
            yield changed
            with write_errors(self.folder / 'counts'):
                os.pwrite(self._counts, _COUNTS.pack(*changed.values()), 0)

    def _evict(self, counts, size):
        """Remove the files that were used longest ago, and set ``held`` to what is really there, and ``size``."""
        found = []
        for entry in os.scandir(self.folder):
            if entry.name.endswith(_SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, status.st_blocks * 512, entry.path))
        held = size + sum(own for _, own, _ in found)
        for _, own, path in sorted(found):
            if held <= self.limit - self.limit // 8:
                break
            # Emptied first: another process may have it open, and would keep its place on the disk.
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, 0)
                os.unlink(path)
            held -= own
            counts['evicted_files'] += 1
            counts['evicted'] += own
        counts['held'] = held


class BlockFile:
    """The blocks of one version of a remote file."""

    def __init__(self, path, blocks):
        self._begin = -(-4 * blocks // _PAGE) * _PAGE  # of the first block, after the table of checksums
        self._touched_s = -_TOUCH_S
        self._path = path
        with write_errors(path):
            self._kept = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), 'r+b', buffering=0)
        self._file = self._kept.fileno()

    def read(self, first, end):
        """Blocks from ``first`` to ``end`` - 1, a list; None for those that are not there."""
        if time.monotonic() - self._touched_s >= _TOUCH_S:
            self._touched_s = time.monotonic()
            os.utime(self._file)
        sums = os.pread(self._file, 4 * (end - first), 4 * first)
        sums = struct.unpack(f'<{end - first}I', sums.ljust(4 * (end - first), b'\0'))
        return [self._block(first + place, crc32) for place, crc32 in enumerate(sums)]

    def write(self, first, data):
        """Keep ``data``, whole blocks from number ``first`` on; only the last of a file may be shorter."""
        blocks = [data[start:start + BLOCK] for start in range(0, len(data), BLOCK)]
        with write_errors(self._path):
            _write(self._file, data, self._begin + first * BLOCK)
            sums = struct.pack(f'<{len(blocks)}I', *map(_crc32, blocks))
            _write(self._file, sums, 4 * first)

    def is_gone(self):
        """Whether it has been evicted."""
        return os.fstat(self._file).st_nlink == 0

    def _block(self, number, crc32):
        if not crc32:
            return None
        block = os.pread(self._file, BLOCK, self._begin + number * BLOCK)
        if _crc32(block) == crc32:
            return block
        return None  # evicted meanwhile, or damaged


def _crc32(block):
    return zlib.crc32(block) or 1  # 0 is the mark of a block that is not there


def _write(file, data, place):
    data = memoryview(data)
    while data:
        written = os.pwrite(file, data, place)
        data, place = data[written:], place + written


@contextlib.contextmanager
def _locked(file, place=None):
    """Lock a file, or one byte of it, against other processes, where the file system can."""
    import fcntl

    # Only a lock of a whole file never fails for fear of a deadlock, which it sees where threads of two processes wait.
    lock = functools.partial(fcntl.flock, file) if place is None else (
        lambda kind: fcntl.lockf(file, kind, 1, place, os.SEEK_SET))
    with contextlib.suppress(OSError):  # some network file systems
        lock(fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock(fcntl.LOCK_UN)
