"""Files behind URLs, read at any place through a cache on a local disk."""

import collections
import concurrent.futures
import contextlib
import hashlib
import io
import os
import posixpath
import queue
import threading
from urllib.parse import urlsplit

from ..utils.errors import MissingFile, SettingError, StorageError
from ..utils.files import WriteError
from ..utils.urls import UrlFolder, shown_url
from .block_cache import BLOCK, BlockCache
from .remote_settings import remote_settings
from .remote_store import Missing, Passing, Patience, Refused, Store, storage_error

PROTOCOLS = ('http', 'https', 's3')
_STRETCH = 32  # blocks of a request where nothing is read ahead
_VERSIONS_AT_ONCE = 16  # requests for the versions of files


class RemoteFiles:
    """Files by URL, read by position, as `ShardFiles`.

    Attributes:
        root (UrlFolder): what the URLs have in common, without credentials.
        names (list[str]): relative to it.
        in_stretches (bool): whether a file is read in one stretch, as `WindowOrder` does.

    Args:
        urls (list[str]): of one protocol.
        settings (RemoteSettings): see there.
        versions (list[Version]): of the files; None: they are asked for now.

    Raises:
        MissingFile: there is no such file.
        StorageError: a file cannot be reached before the deadline, or has changed since this was made.
    """

    in_stretches = False

    def __init__(self, urls, settings, versions=None):
        self._urls, self._settings = list(urls), settings
        shown = list(map(shown_url, urls))
        self.root = UrlFolder(_common_folder(shown))
        self.names = [url.removeprefix(f'{self.root}/') for url in shown]
        self._protocol = urlsplit(urls[0]).scheme.lower()
        self.cache = BlockCache(settings.folder, settings.cache_bytes)
        self._process, self._store, self._read_up_to = None, None, {}
        self._versions = versions or self._ask_versions()
        self._before = self.cache.counts()

    def __getstate__(self):
        own = dict.fromkeys(('_process', '_store', '_inherited', '_waiting'))
        return {**vars(self), **own, '_read_up_to': {}}

    @property
    def index_folder(self):
        """Where an index is kept."""
        return self._settings.folder

    @property
    def deadline_s(self):
        return self._settings.deadline_s

    def path(self, number):
        """URL of a file, without credentials."""
        return self.root / self.names[number]

    def state(self, number):
        """(size in bytes, digest of ETag or time of change), as they were when this object was made."""
        size, mark = self._versions[number]
        digest = hashlib.blake2b(mark.encode(), digest_size=7).digest() if mark else b''
        return size, int.from_bytes(digest, 'big')

    def read(self, number, start, length):
        """Bytes of file ``number``, fewer at its end.

        Raises:
            StorageError: it cannot be reached before the deadline, or has changed.
        """
        stop = min(start + length, self._versions[number].size)
        if stop <= start:
            return b''
        first, end = start // BLOCK, -(-stop // BLOCK)
        blocks = self._file(number).read(first, end)
        is_next = self._read_up_to.get(number) in (first, first + 1)
        self._read_up_to[number] = end
        if None in blocks:
            blocks = self._load(number, first, end, self.in_stretches or is_next)
        begin = start - first * BLOCK
        return b''.join(blocks)[begin:begin + stop - start]

    def open(self, number):
        """A file object for reading."""
        return io.BufferedReader(_OpenFile(self, number, self._versions[number].size), 2**16)

    def remarks(self, window):
        """Line for a log if the cache is smaller than ``window`` files."""
        sizes = sorted((version.size for version in self._versions), reverse=True)
        needed = sum(sizes[:window or 0])
        if needed <= self._settings.cache_bytes * 7 // 8:
            return []
        return [f'{self.root}: a window of {window} files has up to {needed / 1e9:.3g} GB, and the cache '
                f'{self._settings.cache_bytes / 1e9:.3g} GB: parts are loaded more than once. Raise cache_gb of '
                'remote, or lower shuffle_window']

    def closing_remarks(self):
        """Line for a log on what was loaded since this object was made, by all processes that share the cache."""
        counts = self.cache.counts().since(self._before)
        return [f'{self.root}: {counts.loaded / 1e6:.1f} MB loaded in {counts.requests} requests, '
                f'{counts.retries} of them again after a failure; the cache {self.cache.folder} holds '
                f'{counts.held / 1e6:.1f} MB, and {counts.evicted_files} files ({counts.evicted / 1e6:.1f} MB) were '
                'evicted from it']

    def _ask_versions(self):
        self._store_of_process()  # one for all threads
        threads = concurrent.futures.ThreadPoolExecutor(min(_VERSIONS_AT_ONCE, len(self._urls)))
        try:
            return list(threads.map(self._ask_version, self._urls))
        finally:
            threads.shutdown(cancel_futures=True)

    def _ask_version(self, url):
        patience = Patience(url, self.deadline_s, self.cache)
        while True:
            try:
                return self._store_of_process().version(url, patience.left_s())
            except Missing as error:
                raise MissingFile(f'{shown_url(url)} is missing ({error})') from None
            except Refused as error:
                raise storage_error(url, error) from None
            except Passing as error:
                patience.wait(error)

    def _store_of_process(self):
        if self._process != os.getpid():
            # The one of the process that forked this one is kept: its end would wait for a thread that is not here.
            self._inherited, self._waiting = self._store, None
            self._store = Store(self._protocol, self._settings.storage_options)
            self._process = os.getpid()  # last, because other threads look at it
        return self._store

    def _file(self, number):
        return self.cache.file(self._name(number), -(-self._versions[number].size // BLOCK))

    def _name(self, number):
        """Name in the cache: another one for another version of the file."""
        size, mark = self._versions[number]
        place = self.path(number) if mark else self._urls[number]
        digest = hashlib.blake2b(f'{place}\0{size}\0{mark}'.encode('utf-8', 'surrogatepass'), digest_size=12)
        return f'{posixpath.basename(self.names[number])[:60]}-{digest.hexdigest()}'

    def _load(self, number, first, end, in_stretches, ahead=True):
        """Blocks of a file, of which some are not in the cache. In stretches, their neighbours are loaded too."""
        last = -(-self._versions[number].size // BLOCK)
        low, high, step = first, end, self._settings.ahead_blocks or _STRETCH
        in_stretches = in_stretches and self._settings.ahead_blocks
        if in_stretches:
            low, high = first // step * step, min(last, -(-end // step) * step)
        blocks = []
        for begin in range(low // step * step, high, step):
            blocks += self._load_stretch(number, begin // step, max(low, begin), min(high, begin + step))
        if in_stretches and ahead and high < last:
            self._load_later(number, high, min(last, high + step))
        return blocks[first - low:end - low]

    def _load_stretch(self, number, stretch, low, high):
        """Blocks of a part of one stretch, which one thread of one process loads at a time."""
        with self.cache.one_at_a_time(self._name(number), stretch):
            file = self._file(number)
            blocks = file.read(low, high)  # another process may have loaded them meanwhile
            for begin, stop in _gaps(blocks):
                data = self._fetch(number, (low + begin) * BLOCK, (low + stop) * BLOCK)
                self.cache.reserve(len(data))
                file.write(low + begin, data)
                blocks[begin:stop] = [data[at:at + BLOCK] for at in range(0, len(data), BLOCK)]
        return blocks

    def _fetch(self, number, start, stop):
        """Bytes of a file from its server; what has come before a connection is cut is kept."""
        stop, url, data = min(stop, self._versions[number].size), self._urls[number], bytearray()
        patience = Patience(url, self.deadline_s, self.cache)

        def on_data():
            patience.check(len(data))
        while True:
            before = len(data)
            try:
                self.cache.count(requests=1)
                self._store_of_process().read(url, start + before, stop, data,
                                              lambda version: self._check_version(number, version), patience.left_s(),
                                              on_data)
                reason = 'the connection was cut'
            except Missing as error:
                raise storage_error(url, f'it has been removed while it was in use ({error})') from None
            except Refused as error:
                raise storage_error(url, error) from None
            except Passing as error:
                reason = error
            self.cache.count(loaded=len(data) - before)
            if len(data) == stop - start:
                return bytes(data)
            patience.wait(reason)

    def _check_version(self, number, version):
        known = self._versions[number]
        if version != known:
            what = f'{known.size} -> {version.size} bytes' if version.size != known.size else (
                f'ETag or time {known.mark!r} -> {version.mark!r}')
            raise storage_error(self._urls[number], f'it has changed while it was in use ({what}): start again, which '
                                                    'indexes it anew')

    def _load_later(self, number, first, end):
        """Load a stretch by a thread of its own, unless that is busy."""
        self._store_of_process()  # the thread of another process is not here
        if self._waiting is None:
            self._waiting = queue.Queue(1)
            threading.Thread(target=self._load_ahead, args=(self._waiting,), daemon=True).start()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait((number, first, end))

    def _load_ahead(self, waiting):
        while True:
            number, first, end = waiting.get()
            # Whoever needs the stretch meets the same failure, and reports it.
            with contextlib.suppress(StorageError, WriteError):
                if None in self._file(number).read(first, end):
                    self._load(number, first, end, True, ahead=False)


class _OpenFile(io.RawIOBase):
    """A remote file as a file object."""

    def __init__(self, files, number, size):
        self._files, self._number, self._size, self._at = files, number, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self):
        return self._at

    def readinto(self, buffer):
        data = self._files.read(self._number, self._at, len(buffer))
        buffer[:len(data)] = data
        self._at += len(data)
        return len(data)


def find_remote(url, urls, suffixes, kind, option, remote):
    """`RemoteFiles` of a URL, of those that its braces name, or of a folder on S3; and its other files by kind.

    Args:
        url (str): what the user gave.
        urls (list[str]): its braces expanded.
        suffixes, kind, option: see `find_files`.
        remote (dict): see `RemoteSettings`.

    Raises:
        SettingError: another protocol, a folder that cannot be listed, or one without such files.
        MissingFile, StorageError: see `RemoteFiles`.
    """
    settings, shown = remote_settings(remote), shown_url(url)
    protocol = urlsplit(urls[0]).scheme.lower()
    if protocol not in PROTOCOLS:
        raise SettingError(f'{shown!r} ({option}): data are read by URL from http://, https:// and s3://')
    endings = tuple(f'.{suffix}' for suffix in suffixes)
    if protocol != 's3' or all(urlsplit(one).path.lower().endswith(endings) for one in urls):
        if any(urlsplit(one).path.endswith('/') or not urlsplit(one).path for one in urls):
            raise SettingError(f'{shown!r} ({option}): a web server lists no folders. Name the files by a pattern such '
                               f"as '{shown.rstrip('/')}/{{00000..00127}}.{suffixes[0]}'")
        return RemoteFiles(urls, settings), collections.Counter()
    found, others = {}, collections.Counter()
    for one in urls:
        for path, version in _find(one, settings).items():
            if path.lower().endswith(endings):
                found[path] = version
            else:
                others[posixpath.splitext(path)[1].lower() or 'without suffix'] += 1
    del others['.wfvae_index']  # indexes of our own
    if not found:
        held = ', '.join(f'{count} {kind}' for kind, count in others.most_common(8)) or 'nothing'
        raise SettingError(f'no {kind} (.{", .".join(suffixes)}) under {shown!r} ({option}); it holds {held}')
    names = sorted(found)
    return RemoteFiles(names, settings, [found[name] for name in names]), others


def _find(url, settings):
    """{URL: Version} of a folder on S3, before the deadline."""
    store = Store('s3', settings.storage_options)
    patience = Patience(url, settings.deadline_s, BlockCache(settings.folder, settings.cache_bytes))
    while True:
        try:
            return store.find(url)
        except Refused as error:
            raise storage_error(url, error) from None
        except Passing as error:
            patience.wait(error)


def _common_folder(urls):
    """The folder that URLs have in common."""
    if len({urlsplit(url)[:2] for url in urls}) > 1:
        raise SettingError(f'{urls[0]} and others: use files of one server or bucket')
    scheme, place, *_ = urlsplit(urls[0])
    return f'{scheme}://{place}' + posixpath.commonpath([posixpath.dirname(urlsplit(url).path) or '/'
                                                         for url in urls]).rstrip('/')


def _gaps(blocks):
    """(begin, end) of each run of None in a list."""
    gaps, begin = [], None
    for place, block in enumerate([*blocks, b'']):
        if block is None and begin is None:
            begin = place
        elif block is not None and begin is not None:
            gaps.append((begin, place))
            begin = None
    return gaps
