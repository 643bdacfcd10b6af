"""The size of every picture of a dataset, read from headers by several processes and kept in a file."""

import functools
import hashlib
import itertools
import multiprocessing
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..utils.files import atomic_write, one_at_a_time
from ..utils.progress import progress
from .images import BadImage

_CHUNK = 500  # pictures that a process is given at a time
_UNREADABLE = (0, 0)


def picture_sizes(dataset, cache=None):
    """Width and height of every picture, upright: (N, 2) int64; (0, 0) where the header cannot be read.

    Args:
        dataset (ImageDataset | MixedDataset): has ``picture_size`` and ``file_state``.
        cache (str | Path): a file that keeps the sizes; the next call reads only pictures that are new or have changed.
            A damaged one gives a warning.
    """
    marks = np.array([_mark(dataset, index) for index in range(len(dataset))], np.uint64)
    if cache is None:
        return _read(dataset, np.arange(len(dataset)))
    path = Path(cache).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(path.parent):
        known, held = _read_cache(path)
        place = np.searchsorted(known, marks)
        place[place == len(known)] = 0
        found = known[place] == marks if len(known) else np.zeros(len(marks), bool)
        sizes = np.zeros((len(marks), 2), np.int64)
        sizes[found] = held[place[found]]
        sizes[~found] = _read(dataset, np.flatnonzero(~found))
        if not found.all() or len(known) != len(marks):
            _write_cache(path, marks, sizes)
    return sizes


def _mark(dataset, index):
    """64 bits that change with a picture's name, size and time of change."""
    text = f'{dataset.path(index)}\0{dataset.file_state(index)}'.encode('utf-8', 'surrogatepass')
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), 'big')


def _read(dataset, indices):
    chunks = [indices[start:start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    sizes = _read_chunks(functools.partial(_sizes_of, dataset), chunks)
    sizes = progress(sizes, f'sizes of {_CHUNK} pictures read', len(chunks))
    return np.array(list(itertools.chain.from_iterable(sizes)), np.int64).reshape(-1, 2)


def _read_chunks(read, chunks):
    processes = min(len(chunks), len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1)
    if processes < 2:
        yield from map(read, chunks)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context('fork')) as pool:
        yield from pool.map(read, chunks)


def _sizes_of(dataset, indices):
    sizes = []
    for index in indices.tolist():
        try:
            sizes.append(dataset.picture_size(index))
        except (BadImage, OSError):
            sizes.append(_UNREADABLE)
    return sizes


def _read_cache(path):
    """(marks, sizes) of a cache, sorted by mark; empty if there is none."""
    try:
        tensors = load(path.read_bytes())
        marks, sizes = tensors['marks'], tensors['sizes']
        if (marks.dtype, sizes.dtype, sizes.shape) != (np.uint64, np.int64, (len(marks), 2)) or (
                marks[1:] <= marks[:-1]).any() or (sizes < 0).any():
            raise ValueError('it holds no sizes')
        return marks, sizes
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError, ValueError, LookupError) as error:
        warnings.warn(f'{path}: no usable sizes ({type(error).__name__}: {error}); every header is read again',
                      stacklevel=3)
    return np.zeros(0, np.uint64), np.zeros((0, 2), np.int64)


def _write_cache(path, marks, sizes):
    marks, first = np.unique(marks, return_index=True)
    try:
        with atomic_write(path) as file:
            file.write(save({'marks': marks, 'sizes': np.ascontiguousarray(sizes[first])}))
    except OSError as error:
        warnings.warn(f'{path}: the sizes are not kept ({error})', stacklevel=3)
