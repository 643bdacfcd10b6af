import json
import math

import pytest

from wfvae_toolkit.utils.files import atomic_folder, atomic_write, write_json


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


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / 'absent' / 'file') as file:
        file.write(b'')


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
