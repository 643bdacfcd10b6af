"""A JSON-lines file that names pictures, one object a line: reading it as a dataset, and writing one."""

import collections
import hashlib
import json
import os
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..registry import DATASETS
from ..utils.errors import MissingFile, SettingError
from ..utils.files import atomic_write
from .bad_files import BadFile
from .base import ImageDataset
from .images import MAX_PIXELS, BadImage, read_size
from .paths import PathList
from .scan import scan_folder

PATH_KEYS = ('image_path', 'path', 'target')
SPLITS = ('train', 'val')


@DATASETS.register_module()
class ImageManifest(ImageDataset):
    """The pictures that a manifest names, in its order.

    A line is a JSON object in UTF-8 that holds a picture's path, relative to the manifest's folder, under one of
    ``image_path``, ``path`` and ``target``; `fields` gives what else it holds. Blank lines and a byte order mark are
    passed over. In memory are the paths, and 8 bytes a line to find the rest again.

    Args:
        data_root (str | Path): the manifest.
        allow_outside (bool): accept absolute paths, and those that ``..`` leads out of the manifest's folder.
        option (str): name of the setting that holds ``data_root``, for the message.
        pipeline, on_bad, background, max_pixels, cache_mib, decoder: see `ImageDataset`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is broken, the message says which; or the manifest is empty.
    """

    def __init__(self, data_root: str | Path, pipeline=(), allow_outside=False, on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact',
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        self.manifest = Path(data_root)
        super().__init__(self.manifest.parent, pipeline, on_bad, background, max_pixels, cache_mib, decoder)
        if not self.manifest.is_file():
            raise MissingFile(f'there is no manifest {str(data_root)!r}: set {option}')
        self._state = _file_state(self.manifest)
        starts = array('q')
        self.paths = PathList(self._read_paths(allow_outside, starts))
        self._starts = np.array(starts)
        if not self.paths:
            raise SettingError(f'the manifest {str(data_root)!r} ({option}) names no picture')

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]

    def fields(self, index):
        """What the line of a sample holds beside the path, a dict, read from the file.

        Raises:
            ValueError: the manifest is no longer the file that the dataset was made from.
        """
        start = self._starts[index]
        with open(self.manifest, 'rb') as file:
            if _file_state(file.fileno()) != self._state:
                raise SettingError(f'{self.manifest} has changed since it was read: start again')
            file.seek(start)
            row = _parse(file.readline())
        return {key: value for key, value in row.items() if key not in PATH_KEYS}

    def _read_paths(self, allow_outside, starts):
        """Yield the path of every line; append to ``starts`` where the line begins, in bytes."""
        start = 0
        with open(self.manifest, 'rb') as file:
            for number, line in enumerate(file, 1):
                try:
                    row = _parse(line)
                    if row is not None:
                        yield _picture_path(row, allow_outside)
                        starts.append(start)
                except (ValueError, RecursionError) as error:
                    raise SettingError(f'{self.manifest}, line {number}: {error}') from error
                start += len(line)


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
    raise ValueError(f'{name} is no JSON; use null')


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
        raise ValueError(f'{text[:40]!r} is no JSON object; write {{"path": "picture.jpg"}}')
    return row


def _picture_path(row, allow_outside):
    keys = [key for key in PATH_KEYS if key in row]
    if len(keys) != 1:
        raise ValueError(f'holds {" and ".join(keys) or "no path"}: give one of {", ".join(PATH_KEYS)}')
    path = row[keys[0]]
    if not isinstance(path, str) or not path:
        raise ValueError(f'{keys[0]} is {path!r}, not the path of a picture')
    leaves = os.path.isabs(path) or '..' in path and os.path.normpath(path).split(os.sep)[0] == '..'
    if leaves and not allow_outside:
        raise ValueError(f'{path!r} is not in the folder of the manifest: set allow_outside=True to accept that')
    return path


class WrittenManifests(NamedTuple):
    """What `write_manifest` did."""

    counts: dict[Path, int]  # pictures in each file written
    bad: list[BadFile]  # left out
    outside: bool  # the pictures do not lie in the manifest's folder


def write_manifest(folder, out, split=None, seed=0):
    """Write the pictures under ``folder``, sorted, with the ``width`` and ``height`` of their headers, in px.

    Args:
        folder (str | Path): scanned as `ImageFolder` does.
        out (str | Path): the manifest. With ``split``, ``NAME.jsonl`` becomes ``NAME_train.jsonl`` and
            ``NAME_val.jsonl``.
        split (float): share of the pictures for training, between 0 and 1. Which side a picture is on depends on
            its path under ``folder`` and ``seed`` alone: other pictures may come and go.

    Returns:
        WrittenManifests: pictures whose header cannot be read are left out and reported.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: ``split`` is out of range, or a manifest would be empty; nothing is written.
    """
    if split is not None and not 0 < split < 1:
        raise SettingError(f'split {split}: use a share between 0 and 1, such as 0.9')
    if not Path(folder).is_dir():
        raise MissingFile(f'there is no folder {str(folder)!r}')
    out = Path(out)
    manifests = {None: out} if split is None else {
        side: out.with_name(f'{out.name.removesuffix(".jsonl")}_{side}.jsonl') for side in SPLITS}
    prefix = Path(os.path.relpath(folder, out.parent)).as_posix()
    lines, bad = {side: [] for side in manifests}, []
    for path in scan_folder(folder):
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
                            prefix.split('/')[0] == '..')


def _share(path, seed):
    """A number in [0, 1) that the path and the seed decide."""
    digest = hashlib.blake2b(f'{seed}\n{path}'.encode('utf-8', 'surrogatepass'), digest_size=8).digest()
    return int.from_bytes(digest, 'big') / 2**64
