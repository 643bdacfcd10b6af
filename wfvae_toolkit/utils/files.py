"""Atomic files: a file is either complete or absent."""

import contextlib
import errno
import json
import os
import secrets
import shutil
from pathlib import Path

from .errors import UserError

_ADVICE = {
    errno.ENOSPC: 'free space there', errno.EDQUOT: 'free space there', errno.EFBIG: 'raise the limit of file sizes',
    errno.EROFS: 'it is mounted read-only', errno.EACCES: 'this user may not write there',
    errno.EPERM: 'this user may not write there', errno.ENOENT: 'its folder does not exist',
    errno.ENOTDIR: 'its folder is a file', errno.ESTALE: 'its folder does not exist'}


class WriteError(UserError, OSError):
    """A file could not be written; the message names it. Its former content is unchanged."""


@contextlib.contextmanager
def write_errors(path):
    """Turn an OSError raised inside into a WriteError of ``path``, unless the error names another file."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)).parent != Path(path).parent:
            raise
        advice = f'; {_ADVICE[error.errno]}' if error.errno in _ADVICE else ''
        raise WriteError(f'{path}: not written: {error.strerror or error}{advice}') from error


@contextlib.contextmanager
def atomic_write(path, mode='wb'):
    """Open a temporary neighbour of ``path``; on success flush it to disk and rename it over ``path``.

    If anything fails, ``path`` keeps its former content. WriteError: full disk, read-only or deleted folder and so on.
    """
    path = Path(path)
    # Not the process's number: two hosts that share the folder may have the same one.
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(6)}.part')
    with write_errors(path):
        try:
            with open(temporary, mode.replace('w', 'x'),
                      **({} if 'b' in mode else {'encoding': 'utf-8', 'newline': ''})) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            # After the rename this file does not exist. A deleted or read-only folder is reported already.
            with contextlib.suppress(OSError):
                temporary.unlink()
        _flush_folder(path.parent)


@contextlib.contextmanager
def one_at_a_time(folder):
    """Let one process of this machine at a time into the block, where the file system can lock ``folder``."""
    with contextlib.ExitStack() as stack:
        if os.name == 'posix' and Path(folder).is_dir():
            import fcntl

            with contextlib.suppress(OSError):  # some network file systems
                descriptor = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def remove_unfinished(folder, patterns):
    """Delete the temporary files of killed writers, for files whose names match ``patterns``; returns their names.

    Call it only while no process writes these files.
    """
    left = [path for pattern in patterns for path in Path(folder).glob(f'.{pattern}.*.part')]
    for path in left:
        path.unlink(missing_ok=True)
    return sorted(path.name for path in left)


@contextlib.contextmanager
def atomic_folder(path):
    """Make a temporary neighbour of the folder ``path``; on success rename it over ``path``.

    If anything fails before the rename, ``path`` keeps its former content.
    """
    path = Path(path)
    temporary, former = (path.with_name(f'.{path.name}.{secrets.token_hex(6)}.{what}') for what in ('part', 'former'))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _settle_files(temporary)
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
    """A file's name as valid UTF-8: bytes that are not UTF-8 (surrogates in Python) are written as escapes."""
    return str(text).encode(errors='backslashreplace').decode()


def _settle_files(folder):
    """Flush files that other libraries wrote, and apply the umask: safetensors lets only the owner read its files."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob('*'):
        if path.is_file():
            path.chmod(0o666 & ~mask)
            with open(path, 'rb') as file:
                os.fsync(file.fileno())


def _flush_folder(folder):
    # The rename itself is durable only once the folder is flushed; Windows has no such call.
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network and FUSE file systems can flush files but not folders.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)
