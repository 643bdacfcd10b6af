import builtins
import errno
import json
import math
import os
import resource
import shutil

import pytest

from wfvae_toolkit.utils.errors import UserError
from wfvae_toolkit.utils.files import WriteError, atomic_folder, atomic_write, remove_unfinished, write_json


@pytest.mark.parametrize(('mode', 'content'), [('wb', b'\x00\xff\n'), ('w', 'ü\r\nä\n')])
def test_content_arrives_unchanged(tmp_path, mode, content):
    path = tmp_path / 'file'
    for _ in range(2):  # a new file, then over the old one
        with atomic_write(path, mode) as file:
            file.write(content)
        assert path.read_bytes() == (content if mode == 'wb' else content.encode())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize('before', [None, b'before'])
def test_a_failure_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / 'file'
    if before is not None:
        path.write_bytes(before)

    def write():
        with atomic_write(path) as file:
            file.write(b'half')
            file.flush()
            raise error

    with pytest.raises(error):
        write()
    assert (path.read_bytes() if path.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_until_the_end_readers_see_the_old_file(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'before')
    with atomic_write(path) as file:
        file.write(b'after')
        file.flush()
        assert path.read_bytes() == b'before'
        # An unfinished neighbour matches no pattern that finds results.
        assert [other.name[0] for other in tmp_path.iterdir() if other != path] == ['.']
    assert path.read_bytes() == b'after'


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path):
    # As on two hosts, whose processes may have equal numbers.
    with atomic_write(tmp_path / 'file') as first, atomic_write(tmp_path / 'file') as second:
        assert first.name != second.name
        first.write(b'first')
        second.write(b'second')
    assert (tmp_path / 'file').read_bytes() == b'first'  # the last to end
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    kept = ['iter_5.pth', 'iter_5.pth.part', '.other.bin.0123.part', '.hidden', 'x.part']
    for name in ('.iter_5.pth.0123.part', '.iter_7.pth.host.12.part', *kept):
        (tmp_path / name).touch()
    assert remove_unfinished(tmp_path, ['iter_*.pth', 'log.jsonl']) == [
        '.iter_5.pth.0123.part', '.iter_7.pth.host.12.part']
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


# faults

class Failing:
    """A file of which one call raises."""

    def __init__(self, file, call, error):
        self._file, self._call, self._error = file, call, error

    def __getattr__(self, name):
        if name == self._call:
            raise self._error
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def inject(monkeypatch, step, number):
    """From now on ``step`` raises the OSError of that number."""
    error = OSError(number, os.strerror(number))

    def fail(*arguments, **options):
        raise error

    if step in ('open', 'write', 'flush'):
        stock = builtins.open
        monkeypatch.setattr(builtins, 'open', fail if step == 'open' else
                            lambda *arguments, **options: Failing(stock(*arguments, **options), step, error))
    else:
        monkeypatch.setattr(os, step, fail)


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize('step', ['open', 'write', 'flush', 'fsync', 'replace'])
def test_every_fault_at_every_step_keeps_the_old_file_and_names_it(tmp_path, monkeypatch, step, number):
    path = tmp_path / 'file'
    path.write_bytes(b'before')
    with monkeypatch.context() as patch:
        inject(patch, step, number)
        with pytest.raises(WriteError) as caught, atomic_write(path) as file:
            file.write(b'after')
    assert str(caught.value).startswith(f'{path}: not written: {os.strerror(number)}')
    assert isinstance(caught.value, UserError)
    assert path.read_bytes() == b'before'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_flushes_no_folders_will_do(tmp_path, monkeypatch, number):
    stock = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f'/proc/self/fd/{descriptor}'):
            raise OSError(number, os.strerror(number))
        stock(descriptor)

    monkeypatch.setattr(os, 'fsync', fsync)
    with atomic_write(tmp_path / 'file') as file:
        file.write(b'after')
    assert (tmp_path / 'file').read_bytes() == b'after'


def test_a_limit_of_the_system_is_met(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'before')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(WriteError) as caught, atomic_write(path) as file:
            file.write(bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == f'{path}: not written: File too large; raise the limit of file sizes'
    assert path.read_bytes() == b'before'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('when', ['before', 'meanwhile'])
def test_a_folder_that_vanished(tmp_path, when):
    folder = tmp_path / 'folder'
    folder.mkdir()
    if when == 'before':
        folder.rmdir()

    def write():
        with atomic_write(folder / 'file') as file:
            shutil.rmtree(folder)
            file.write(b'')

    with pytest.raises(WriteError, match=f'{folder}/file: not written: .*; its folder does not exist'):
        write()
    assert not folder.exists()


def test_an_error_about_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match='source'), atomic_write(tmp_path / 'file') as file:
        file.write((tmp_path / 'absent' / 'source').read_bytes())


def test_json_round_trip(tmp_path):
    data = {'name': 'ü', 'values': [1, 0.1 + 0.2, None, True]}
    write_json(tmp_path / 'a.json', data)
    text = (tmp_path / 'a.json').read_text(encoding='utf-8')
    assert json.loads(text) == data
    assert 'ü' in text
    assert text.endswith('}\n')


@pytest.mark.parametrize('value', [math.nan, math.inf, {1, 2}])
def test_what_json_cannot_hold_changes_nothing(tmp_path, value):
    path = tmp_path / 'a.json'
    write_json(path, {'value': 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {'value': value})
    assert json.loads(path.read_text()) == {'value': 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('before', [False, True])
@pytest.mark.parametrize('error', [None, RuntimeError, KeyboardInterrupt])
def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path, before, error):
    path = tmp_path / 'folder'
    if before:
        path.mkdir()
        (path / 'old').touch()

    def write():
        with atomic_folder(path) as folder:
            (folder / 'new').touch()
            assert not (path / 'new').exists()
            if error is not None:
                raise error

    if error is None:
        write()
        assert [file.name for file in path.iterdir()] == ['new']
    else:
        with pytest.raises(error):
            write()
        assert path.exists() == before
        assert not before or [file.name for file in path.iterdir()] == ['old']
    assert list(tmp_path.iterdir()) == ([path] if before or error is None else [])


def test_files_of_a_folder_are_readable_as_the_umask_says(tmp_path):
    with atomic_folder(tmp_path / 'model') as folder:
        (folder / 'weights').touch(mode=0o600)
        (folder / 'part').mkdir()
        (folder / 'part/more').touch(mode=0o600)
    (tmp_path / 'plain').touch()
    expected = (tmp_path / 'plain').stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / 'model').rglob('*') if path.is_file()} == {expected}
