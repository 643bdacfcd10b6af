"""An index of what tar shards and tables hold: built once and kept in a file.

Members of one key belong together, as in WebDataset: the key is a member's path up to the first dot of its name, and
the rest is its extension. The file is in the format of safetensors; its metadata hold a JSON object.

| tensor | holds |
| --- | --- |
| ``shard_keys`` | (shards + 1,) number of the first key of each shard |
| ``key_members`` | (keys + 1,) number of the first member of each key |
| ``key_starts``, ``key_bytes`` | (keys + 1,) where the text of each key begins, and the texts |
| ``member_start``, ``member_size`` | (members,) place of the content in its shard, in bytes |
| ``member_crc32`` | (members,) of the header, which tells whether the shard is still the one that was indexed |
| ``member_extension`` | (members,) number in the list ``extensions`` of the metadata |
"""

import collections
import concurrent.futures
import functools
import json
import multiprocessing
import os
import warnings
import zlib
from array import array
from dataclasses import dataclass, field

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..utils.files import atomic_write, one_at_a_time
from ..utils.progress import progress
from .tar_members import DamagedTar, tar_members

FORMAT = 'wfvae_toolkit shard index 1'
_DTYPES = {'shard_keys': np.int64, 'key_members': np.int64, 'key_starts': np.int64, 'key_bytes': np.uint8,
           'member_start': np.int64, 'member_size': np.int64, 'member_crc32': np.uint32, 'member_extension': np.uint32}
_SMALL = 2**28  # bytes of shards that are indexed sooner than processes start


@dataclass
class Shard:
    """A shard as it was indexed."""

    name: str
    state: list[int]  # size in bytes and time of change, of the file
    passed_over: dict[str, int] = field(default_factory=dict)  # kind of member -> number
    damage: str | None = None  # why members after the indexed ones could not be found


@dataclass
class ShardIndex:
    """The tensors of the table above, for all shards."""

    shards: list[Shard]
    extensions: list[str]
    tensors: dict[str, np.ndarray]

    def __getattr__(self, name):
        try:
            return self.__dict__['tensors'][name]
        except KeyError:
            raise AttributeError(name) from None

    def key(self, number):
        """Text of a key, such as ``'photos/000012'``."""
        start, stop = self.key_starts[number:number + 2]
        return self.key_bytes[start:stop].tobytes().decode('utf-8', 'surrogateescape')

    def extension(self, member):
        return self.extensions[self.member_extension[member]]

    def of_shard(self, number):
        """The index of one shard alone."""
        keys = slice(*self.shard_keys[number:number + 2])
        members = slice(*self.key_members[[keys.start, keys.stop]])
        text = slice(*self.key_starts[[keys.start, keys.stop]])
        tensors = {
            'shard_keys': np.array([0, keys.stop - keys.start]),
            'key_members': self.key_members[keys.start:keys.stop + 1] - members.start,
            'key_starts': self.key_starts[keys.start:keys.stop + 1] - text.start, 'key_bytes': self.key_bytes[text],
            **{name: self.tensors[name][members] for name in _DTYPES if name.startswith('member_')}}
        return ShardIndex([self.shards[number]], self.extensions, tensors)


def open_index(files, path, index_file):
    """The index of ``files`` in the file ``path``, with new and changed shards scanned first.

    Processes of one machine that open it together scan once. A file that cannot be written gives a warning.

    Args:
        files (ShardFiles): the shards.
        path (Path): where the index is kept.
        index_file (callable): (files, number, state) -> `ShardIndex` of one of them, such as `index_tar`.

    Returns:
        ShardIndex
    """
    states = [files.state(number) for number in range(len(files.names))]
    index = read_index(path)
    if _fits(index, files.names, states):
        return index
    with one_at_a_time(path.parent):
        index = read_index(path)
        if _fits(index, files.names, states):
            return index
        index = build_index(files, states, index_file, index)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(_serialised(index))
        except OSError as error:
            warnings.warn(f'the index of the files is not kept, and is made anew at each start: {error}; index_folder '
                          'names another place for it', stacklevel=2)
    return index


def build_index(files, states, index_file, old=None):
    """`ShardIndex` of ``files``; shards that ``old`` holds in the same state are not scanned."""
    known = {} if old is None else {(shard.name, tuple(shard.state)): number
                                    for number, shard in enumerate(old.shards)}
    found = [known.get((name, tuple(state))) for name, state in zip(files.names, states, strict=True)]
    to_scan = [number for number, place in enumerate(found) if place is None]
    scanned = dict(zip(to_scan, progress(_scan_all(index_file, files, states, to_scan), 'files indexed', len(to_scan)),
                       strict=True))
    return _joined([scanned[number] if place is None else old.of_shard(place) for number, place in enumerate(found)])


def index_tar(files, number, state):
    """`ShardIndex` of one tar shard, read from it."""
    keys, extensions, of_key = {}, {}, array('q')
    starts, sizes, sums, kinds = array('q'), array('q'), array('L'), array('L')
    passed_over, damage = collections.Counter(), None
    try:
        for name, start, size, crc32 in tar_members(functools.partial(files.read, number), state[0], passed_over):
            name = name.removeprefix(b'./').lstrip(b'/')
            if b'..' in name and b'..' in name.split(b'/') or b'\0' in name:
                passed_over['names that leave the folder'] += 1
                continue
            base = name.rfind(b'/') + 1
            dot = name.find(b'.', base)
            if dot <= base:
                passed_over['hidden' if dot == base else 'without suffix'] += 1
                continue
            of_key.append(keys.setdefault(name[:dot], len(keys)))
            kinds.append(extensions.setdefault(name[dot + 1:], len(extensions)))
            starts.append(start)
            sizes.append(size)
            sums.append(crc32)
    except DamagedTar as error:
        damage = str(error)
    members = {'member_start': starts, 'member_size': sizes, 'member_crc32': sums, 'member_extension': kinds}
    shard = Shard(files.names[number], list(state), dict(passed_over), damage)
    return index_of(shard, keys, extensions, of_key, members)


def index_of(shard, keys, extensions, of_key, members):
    """`ShardIndex` of one file.

    Args:
        shard (Shard): the file.
        keys, extensions (iterable of bytes): texts, by number.
        of_key (sequence of int): number of each member's key.
        members (dict[str, sequence of int]): the tensors ``member_*``.
    """
    of_key = np.array(of_key, np.int64)
    order = np.argsort(of_key, kind='stable')  # members of a key need not be neighbours
    tensors = {'shard_keys': [0, len(keys)],
               'key_members': np.searchsorted(of_key[order], np.arange(len(keys) + 1)),
               'key_starts': np.cumsum([0, *map(len, keys)]), 'key_bytes': np.frombuffer(b''.join(keys), np.uint8),
               **{name: np.array(values)[order] for name, values in members.items()}}
    return ShardIndex([shard], [extension.decode('utf-8', 'surrogateescape') for extension in extensions],
                      {name: np.asarray(values, _DTYPES[name]) for name, values in tensors.items()})


def _scan_all(index_file, files, states, numbers):
    """`index_file` of each of ``numbers``, in order; by several processes where there is much to read."""
    of = functools.partial(index_file, files)
    work = numbers, [states[number] for number in numbers]
    processes = min(len(numbers), len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1)
    if processes < 2 or sum(state[0] for state in work[1]) < _SMALL:
        yield from map(of, *work)
        return
    # Forked, as data workers are: a new interpreter would take longer to import this than a shard to be read.
    with concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context('fork')) as pool:
        yield from pool.map(of, *work)


def _joined(indices):
    """One index of several, each of one shard."""
    extensions = {}
    parts = collections.defaultdict(list)
    for index in indices:
        numbers = np.array([extensions.setdefault(name, len(extensions)) for name in index.extensions], np.uint32)
        for name, values in index.tensors.items():
            parts[name].append(numbers[values] if name == 'member_extension' and len(values) else values)
    tensors = {name: _chained(pieces) if name in ('shard_keys', 'key_members', 'key_starts')
               else np.concatenate(pieces) for name, pieces in parts.items()}
    return ShardIndex([shard for index in indices for shard in index.shards], list(extensions), tensors)


def _chained(pieces):
    """[0, a, b], [0, c] -> [0, a, b, b + c]."""
    return np.cumsum(np.concatenate([[0], *(np.diff(piece) for piece in pieces)]), dtype=np.int64)


def _fits(index, names, states):
    return index is not None and [(shard.name, tuple(shard.state)) for shard in index.shards] == [
        (name, tuple(state)) for name, state in zip(names, states, strict=True)]


# the file ------------------------------------------------------------------------------------

def _serialised(index):
    # ASCII: a name need not be valid UTF-8.
    told = {'format': FORMAT, 'shards': json.dumps([vars(shard) for shard in index.shards]),
            'extensions': json.dumps(index.extensions)}
    return save({name: np.ascontiguousarray(values) for name, values in index.tensors.items()},
                {**told, 'crc32': _crc32(told, index.tensors)})


def _crc32(told, tensors):
    """Checksum of everything in the file, as a text."""
    value = zlib.crc32(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        value = zlib.crc32(np.ascontiguousarray(tensors[name]), value)
    return str(value)


def read_index(path):
    """`ShardIndex` of a file; None if there is none. A damaged one gives a warning."""
    try:
        # Read, not mapped: if another process replaces a mapped file on a network disk, this one dies of SIGBUS.
        with safe_open(path, 'np') as file:
            told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if told.pop('format') != FORMAT:
            raise ValueError('another format or version')
        if {name: values.dtype for name, values in tensors.items()} != _DTYPES:
            raise ValueError('other tensors')
        if told.pop('crc32') != _crc32({'format': FORMAT, **told}, tensors):
            raise ValueError('its checksum is wrong')
        return ShardIndex([Shard(**row) for row in json.loads(told['shards'])], json.loads(told['extensions']), tensors)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        warnings.warn(f'{path}: no usable index ({type(error).__name__}: {error}); every file is indexed again',
                      stacklevel=2)
        return None
