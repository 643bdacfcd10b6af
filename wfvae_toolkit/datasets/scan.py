"""Find every picture under a folder, and count the other files.

A cache keeps the listings of folders, so that a later scan lists only folders that have changed. It is a file of JSON
lines: a header with a checksum of the rest, then one line per folder. A folder counts as unchanged while its inode, its
times of modification and change, its size and its number of links are the same. On most file systems the last two grow
with the number of entries.
"""

import collections
import json
import os
import time
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

from ..utils.files import atomic_write
from .images import readable_extensions

CACHE_FORMAT = 'wfvae_toolkit folder scan 2'
SHOWN = 8  # kinds of files that a remark names; the others are only counted
# A folder can change twice within one tick of its clock (2 s on FAT). One that has just changed is not cached.
SETTLED_NS = 2 * 10**9


class _Listing(NamedTuple):
    """Content of a folder. Names are joined by slashes, which no name contains; a list needs ten times the memory."""

    fingerprint: tuple[int, ...]
    pictures: str
    folders: str
    links: str  # to folders, or to targets that may become folders
    others: str  # numbers of other files by `_kind`: '12 .txt/1 hidden'


class Scan(NamedTuple):
    """Files under a folder."""

    paths: list[str]  # of the pictures: relative, POSIX, sorted
    passed_over: collections.Counter  # kind of file ('.heic', 'hidden', ...) -> number


def describe_scan(root, pictures, passed_over):
    """List of one line for a log on ``pictures``, their number, and on `Scan.passed_over`; empty if that is empty."""
    if not passed_over:
        return []
    return [f'{root}: {pictures} pictures; {passed_over.total()} other files are passed over: '
            f'{count_kinds(passed_over)}']


def count_kinds(passed_over):
    """Counter of kinds -> '12 .heic, 4 hidden'; at most `SHOWN` kinds by name."""
    kinds = [f'{count} {kind}' for kind, count in passed_over.most_common(SHOWN)]
    rest = sum(count for _, count in passed_over.most_common()[SHOWN:])
    if rest:
        kinds.append(f'{rest} of other kinds')
    return ', '.join(kinds)


def scan_folder(root, extensions=None, cache=None):
    """The paths of `scan_tree`: relative, POSIX, sorted."""
    return scan_tree(root, extensions, cache).paths


def scan_tree(root, extensions=None, cache=None):
    """Find the files under ``root`` with one of the extensions, in any case.

    Links to folders are followed, except a link back to a folder that contains it. Files that cannot be opened are
    listed too: they are reported when they are read.

    Args:
        extensions (sequence of str): None: those of the formats that the installed Pillow decodes.
        cache (str | Path): a file that keeps the listings for the next scan, created if missing. It must lie outside
            ``root``, because writing it changes its folder. A damaged cache, or one that cannot be written, gives a
            warning. One change is not noticed: a link with the suffix of a picture whose target, a file, becomes a
            folder.

    Returns:
        Scan
    """
    extensions = readable_extensions() if extensions is None else extensions
    endings = {'.' + extension.lower().lstrip('.') for extension in extensions}
    cached = {} if cache is None else _read_cache(cache, endings)
    settled_before_ns = time.time_ns() - SETTLED_NS
    paths, settled, passed_over = [], {}, collections.Counter()
    pending = [('', ())]  # folder relative to root with a final slash, identities of the folders that contain it
    while pending:
        folder, above = pending.pop()
        status = os.stat(Path(root, folder))
        identity = status.st_dev, status.st_ino
        if identity in above:
            passed_over['links back to a folder above'] += 1
            continue
        fingerprint = status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_nlink
        listing = cached.get(folder)
        if listing is None or listing.fingerprint != fingerprint:
            listing = _list_folder(Path(root, folder), endings, fingerprint)
        if max(status.st_mtime_ns, status.st_ctime_ns) < settled_before_ns:
            settled[folder] = listing
        links = []
        for name in _names(listing.links):
            if os.path.isdir(Path(root, folder, name)):
                links.append(name)
            else:
                passed_over[_kind(name)] += 1
        for count, kind in _counts(listing.others):
            passed_over[kind] += count
        pending += [(f'{folder}{name}/', (*above, identity)) for name in _names(listing.folders) + links]
        paths += [folder + name for name in _names(listing.pictures)]
    if cache is not None and settled != cached:
        _write_cache(cache, endings, settled)
    return Scan(sorted(paths), passed_over)


def _kind(name):
    """Kind of a file that is not a picture: its suffix, 'hidden' or 'without suffix'."""
    suffix = os.path.splitext(name)[1].lower()
    return 'hidden' if name.startswith('.') else suffix or 'without suffix'


def _counts(others):
    """'12 .txt/1 hidden' -> (12, '.txt'), (1, 'hidden')."""
    pairs = (entry.split(' ', 1) for entry in _names(others))
    return [(int(count), kind) for count, kind in pairs]


def _list_folder(path, endings, fingerprint):
    pictures, folders, links, others = [], [], [], collections.Counter()
    with os.scandir(path) as entries:
        for entry in entries:
            is_picture = os.path.splitext(entry.name)[1].lower() in endings
            # entry.is_dir() raises for a link to itself; os.path.isdir returns False.
            if entry.is_symlink() and not (is_picture and not os.path.isdir(entry.path)):
                links.append(entry.name)
            elif not entry.is_symlink() and entry.is_dir():
                folders.append(entry.name)
            elif is_picture:
                pictures.append(entry.name)
            else:
                others[_kind(entry.name)] += 1
    counted = [f'{count} {kind}' for kind, count in sorted(others.items())]
    return _Listing(fingerprint, *map('/'.join, (pictures, folders, links, counted)))


def _names(joined):
    return joined.split('/') if joined else []


def _read_cache(path, endings):
    """Folder -> `_Listing`; empty if there is no cache, or one for other extensions."""
    try:
        header, _, body = Path(path).read_bytes().partition(b'\n')
        header = json.loads(header)
        if header['format'] != CACHE_FORMAT or header['crc32'] != zlib.crc32(body):
            raise ValueError('format or checksum is wrong')
        if header['extensions'] != sorted(endings):
            return {}
        return {folder: _checked(_Listing(tuple(fingerprint), *names))
                for folder, fingerprint, *names in map(json.loads, body.splitlines())}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        warnings.warn(f'{path}: no usable scan cache ({type(error).__name__}: {error}); every folder is listed again',
                      stacklevel=2)
        return {}


def _checked(listing):
    """The listing; ValueError if a name leaves its folder. A checksum does not protect from a forged file."""
    _counts(listing.others)
    for joined in listing[1:]:
        if any(name in ('', '.', '..') or '\0' in name for name in _names(joined)):
            raise ValueError(f'a name leads out of its folder: {joined[:80]!r}')
    return listing


def _write_cache(path, endings, listings):
    # ASCII: a file name need not be valid UTF-8.
    body = ''.join(f'{json.dumps([folder, *listing])}\n' for folder, listing in listings.items()).encode('ascii')
    header = {'format': CACHE_FORMAT, 'extensions': sorted(endings), 'crc32': zlib.crc32(body)}
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(header).encode('ascii') + b'\n' + body)
    except OSError as error:
        warnings.warn(f'{path}: the scan is not cached ({error})', stacklevel=2)
