"""Files that are either whole or not there."""

import contextlib
import json
import os
import shutil
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path, mode='wb'):
    """Open a temporary neighbour of ``path``; on success flush it to disk and rename it over ``path``.

    Whatever fails, ``path`` keeps its former content.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with open(temporary, mode, **({} if 'b' in mode else {'encoding': 'utf-8', 'newline': ''})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path):
    """Make a temporary neighbour of the folder ``path``; on success rename it over ``path``.

    Whatever fails before, ``path`` keeps its former content.
    """
    path = Path(path)
    temporary, former = (path.with_name(f'.{path.name}.{os.getpid()}.{what}') for what in ('part', 'former'))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _flush_folder(temporary)
        if path.exists():
            path.rename(former)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if former.exists() and not path.exists():
            former.rename(path)
        shutil.rmtree(former, ignore_errors=True)
    _flush_folder(path.parent)


def write_json(path, data):
    """Indented, strict JSON (no NaN), atomically."""
    with atomic_write(path, 'w') as file:
        file.write(json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + '\n')


def printable(text):
    """A file's name as any file or console takes it: bytes that are no UTF-8, kept as surrogates, are spelled out."""
    return str(text).encode(errors='backslashreplace').decode()


def _flush_folder(folder):
    # The rename itself is durable only once the folder is flushed; Windows has no such call.
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
