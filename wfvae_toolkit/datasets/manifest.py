"""Manifests: read a JSON-lines file of pictures as a dataset, and write one for a folder."""

import codecs
import collections
import hashlib
import json
import os
import re
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..registry import DATASETS
from ..utils.errors import MissingFile, SettingError, is_number
from ..utils.files import atomic_write
from ..utils.progress import progress
from .bad_files import BadFile
from .base import ImageDataset
from .extras import Mask, check_keys, read_extras
from .images import MAX_PIXELS, BadImage, read_size
from .paths import PathList
from .scan import describe_scan, scan_tree

PATH_KEYS = ('image_path', 'path', 'target')
SPLITS = ('train', 'val')
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@DATASETS.register_module()
class ImageManifest(ImageDataset):
    """The pictures that a manifest names, in its order.

    Each line is a JSON object in UTF-8. It holds the path of a picture, relative to the folder of the manifest, under
    ``image_path``, ``path`` or ``target``; `fields` gives the other keys. The separator is ``/``, on Windows too. Blank
    lines and a byte order mark are ignored. Memory holds the paths, and 8 bytes per line to find the line again.

    Args:
        data_root (str | Path): the manifest.
        allow_outside (bool): accept paths that are absolute, begin with ``~/``, or leave the folder of the manifest by
            ``..``.
        mask_keys (list[str]): keys of every line that hold the path of a `Mask`; each is an extra field of the sample.
        extra_keys (list[str]): keys of every line whose value, a string, a number or a list of numbers, is an extra
            field of the sample.
        option (str): name of the setting that holds ``data_root``, for the message.
        pipeline, on_bad, background, max_pixels, cache_mib, decoder, convert_to_srgb: see `ImageDataset`.

    Raises:
        MissingFile: there is no such file.
        SettingError: a line is broken or lacks a key, and the message names it; or the manifest is empty.
    """

    def __init__(self, data_root: str | Path, pipeline=(), allow_outside=False, on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact', convert_to_srgb=False, mask_keys: list = (), extra_keys: list = (),
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        self.manifest = Path(data_root).expanduser()
        super().__init__(self.manifest.parent, pipeline, on_bad, background, max_pixels, cache_mib, decoder,
                         convert_to_srgb)
        if not self.manifest.is_file():
            hint = ". It is a folder: dataset.type='ImageFolder' reads folders" if self.manifest.is_dir() else ''
            raise MissingFile(f'there is no manifest {str(data_root)!r}: set {option}{hint}')
        self.mask_keys, self.extra_keys = check_keys(mask_keys, extra_keys, PATH_KEYS)
        self.allow_outside = allow_outside
        self._state = _file_state(self.manifest)
        starts = array('q')
        self.paths = PathList(self._read_paths(starts))
        self._starts = np.array(starts)
        if not self.paths:
            raise SettingError(f'the manifest {str(data_root)!r} ({option}) names no picture')

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]

    def extras(self, index):
        """The fields of ``mask_keys`` and ``extra_keys``."""
        if not self.has_extras:
            return {}
        fields = self.fields(index)
        return {**{key: Mask(self.data_root / _inner_path(fields, key, self.allow_outside)) for key in self.mask_keys},
                **{key: fields[key] for key in self.extra_keys}}

    @property
    def has_extras(self):
        """Whether samples have extra fields."""
        return bool(self.mask_keys or self.extra_keys)

    def fields(self, index):
        """The line of a sample without its path, a dict, read from the file.

        Raises:
            SettingError: the manifest has changed since the dataset was made.
        """
        start = self._starts[index]
        with open(self.manifest, 'rb') as file:
            if _file_state(file.fileno()) != self._state:
                raise SettingError(f'{self.manifest} has changed since it was read: start again')
            file.seek(start)
            row = _parse(file.readline())
        return {key: value for key, value in row.items() if key not in PATH_KEYS}

    def picture_size(self, index):
        """``width`` and ``height`` of the line, as `write_manifest` gives them; else from the picture's header."""
        fields = self.fields(index)
        size = fields.get('width'), fields.get('height')
        return size if all(is_number(side, 1, whole=True) for side in size) else super().picture_size(index)

    def _read_paths(self, starts):
        """Yield the path of every line; append to ``starts`` where the line begins, in bytes."""
        start = 0
        with open(self.manifest, 'rb') as file:
            for number, line in enumerate(file, 1):
                try:
                    if number == 1 and (line.startswith(_UTF16) or b'\0' in line[:4]):
                        raise ValueError('the file is in UTF-16, as some Windows programs write it; save it as UTF-8')
                    row = _parse(line)
                    if row is not None:
                        path = _picture_path(row, self.allow_outside)
                        for inner in (path, *(_inner_path(row, key, self.allow_outside) for key in self.mask_keys)):
                            self._check_separator(inner)
                        read_extras({key: _value(row, key) for key in self.extra_keys})
                        yield path
                        starts.append(start)
                except (ValueError, RecursionError) as error:
                    raise SettingError(f'{self.manifest}, line {number}: {error}') from error
                start += len(line)

    def _check_separator(self, path):
        r"""ValueError for a path with the drive or the separator \ of Windows, unless such a file exists here."""
        drive = re.match(r'[A-Za-z]:[\\/]', path)
        if os.name == 'nt' or not (drive or '\\' in path) or os.path.lexists(self.data_root / path):
            return
        right = path.replace('\\', '/')
        if drive:
            raise ValueError(f'{path!r} begins with a drive of Windows: write the path from the folder of the manifest '
                             f'to the picture, with the separator /, such as {"/".join(right.split("/")[-2:])!r}')
        raise ValueError(f'{path!r} has the separator \\ of Windows: write {right!r}, which is read everywhere')


def _file_state(file):
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns


def _unique(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        (key, _), = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f'key {key!r} appears twice')
    return row


def _no_number(name):
    raise ValueError(f'{name} is not JSON; use null')


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _parse(line):
    """Bytes of a line -> dict, None if it is blank."""
    text = line.decode('utf-8-sig').strip(' \t\r\n')
    if not text:
        return None
    try:
        row = _DECODER.decode(text)
    except json.JSONDecodeError as error:  # its own message would name line 1
        raise ValueError(f'{error.msg} at column {error.colno}') from None
    if not isinstance(row, dict):
        raise ValueError(f'{text[:40]!r} is not a JSON object; write {{"path": "picture.jpg"}}')
    return row


def _value(row, key):
    if key not in row:
        raise ValueError(f'lacks the key {key!r}, which mask_keys or extra_keys names')
    return row[key]


def _picture_path(row, allow_outside):
    keys = [key for key in PATH_KEYS if key in row]
    if len(keys) != 1:
        raise ValueError(f'holds {" and ".join(keys) or "no path"}: give one of {", ".join(PATH_KEYS)}')
    return _inner_path(row, keys[0], allow_outside)


def _inner_path(row, key, allow_outside):
    """The path under a key of a line, ``~`` expanded; ValueError for one that leaves the folder of the manifest."""
    path = _value(row, key)
    if not isinstance(path, str) or not path:
        raise ValueError(f'{key} is {path!r}, not the path of a picture')
    above = '..' in path and os.path.normpath(path).split(os.sep)[0] == '..'
    leaves = above or os.path.isabs(path) or path.startswith('~/')
    if leaves and not allow_outside:
        raise ValueError(f'{path!r} is not in the folder of the manifest: set allow_outside=True to accept that')
    return os.path.expanduser(path) if path.startswith('~/') else path


class WrittenManifests(NamedTuple):
    """What `write_manifest` did."""

    counts: dict[Path, int]  # pictures in each manifest
    bad: list[BadFile]  # files that were left out
    outside: bool  # whether the pictures lie outside the folder of the manifest
    remarks: list[str]  # lines for a log on other files of the folder


def write_manifest(folder, out, split=None, seed=0):
    """Write the pictures under ``folder``, sorted, with the ``width`` and ``height`` of their headers, in px.

    Args:
        folder (str | Path): scanned as `ImageFolder` does.
        out (str | Path): the manifest. With ``split``, ``NAME.jsonl`` becomes ``NAME_train.jsonl`` and
            ``NAME_val.jsonl``.
        split (float): share of the pictures for training, between 0 and 1. The side of a picture depends only on its
            path under ``folder`` and on ``seed``: adding or removing others does not change it.

    Returns:
        WrittenManifests: pictures whose header cannot be read are left out and reported.

    Raises:
        MissingFile: there is no such folder.
        SettingError: ``split`` is out of range, or a manifest would be empty; nothing is written.
    """
    if split is not None and not 0 < split < 1:
        raise SettingError(f'split {split}: use a share between 0 and 1, such as 0.9')
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    if not folder.is_dir():
        raise MissingFile(f'there is no folder {str(folder)!r}')
    manifests = {None: out} if split is None else {
        side: out.with_name(f'{out.name.removesuffix(".jsonl")}_{side}.jsonl') for side in SPLITS}
    prefix = Path(os.path.relpath(folder, out.parent)).as_posix()
    lines, bad = {side: [] for side in manifests}, []
    scan = scan_tree(folder)
    for path in progress(scan.paths, 'pictures listed', len(scan.paths)):
        try:
            width, height = read_size(Path(folder, path))
        except BadImage as error:
            bad.append(BadFile(path, error.reason))
            continue
        side = split if split is None else SPLITS[_share(path, seed) >= split]
        # ASCII: a file name need not be valid UTF-8.
        row = {'path': path if prefix == '.' else f'{prefix}/{path}', 'width': width, 'height': height}
        lines[side].append(json.dumps(row) + '\n')
    for side, manifest in manifests.items():
        if not lines[side]:
            raise SettingError(f'{manifest} would be empty: {sum(map(len, lines.values()))} pictures under '
                               f'{str(folder)!r} can be read, {len(bad)} cannot; nothing is written')
    for side, manifest in manifests.items():
        manifest.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(manifest, 'w') as file:
            file.writelines(lines[side])
    return WrittenManifests({manifest: len(lines[side]) for side, manifest in manifests.items()}, bad,
                            prefix.split('/')[0] == '..',
                            describe_scan(folder, len(scan.paths), scan.passed_over))


def _share(path, seed):
    """A number in [0, 1), a hash of the path and the seed."""
    digest = hashlib.blake2b(f'{seed}\n{path}'.encode('utf-8', 'surrogatepass'), digest_size=8).digest()
    return int.from_bytes(digest, 'big') / 2**64
