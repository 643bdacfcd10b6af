import os
import pickle

import pytest

from wfvae_toolkit.datasets import shard_files
from wfvae_toolkit.datasets.shard_files import ShardFiles, expand_braces, find_files
from wfvae_toolkit.utils.errors import MissingFile, SettingError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'b').mkdir()
    for name in ('a0.tar', 'a1.tar', 'b/c.tar', 'a0.json'):
        (tmp_path / name).write_bytes(name.encode() * 10)
    return tmp_path


def test_braces_hold_ranges_and_lists():
    assert expand_braces('s/{08..11}.tar') == ['s/08.tar', 's/09.tar', 's/10.tar', 's/11.tar']
    assert expand_braces('{a,b}{0..1}') == ['a0', 'a1', 'b0', 'b1']
    assert expand_braces('plain') == ['plain']
    for pattern in ('{1..a}', '{3..1}', '{}', '{a}'):
        with pytest.raises(SettingError, match='is no range such as'):
            expand_braces(pattern)


@pytest.mark.parametrize(('given', 'names'), [
    ('.', ['a0.tar', 'a1.tar', 'b/c.tar']), ('a1.tar', ['a1.tar']), ('a{0..1}.tar', ['a0.tar', 'a1.tar']),
    ('{a0,b/c}.tar', ['a0.tar', 'b/c.tar'])])
def test_folders_files_and_patterns_are_found(folder, given, names):
    files, others = find_files(folder / given, ('tar',), 'tar shard', 'option')
    assert (files.names, files.root) == (names, folder)
    assert others == ({'.json': 1} if given == '.' else {})


def test_what_is_not_there_is_named(folder):
    for given, error, words in (
            ('a{0..2}.tar', MissingFile, r'1 of the 3 files .*a2.tar'),
            ('none', MissingFile, 'there is no .*set option'),
            ('empty', SettingError, r'no tar shard \(.tar\) under .*it holds nothing$'),
            ('packed', SettingError, 'it holds 1 .gz. A compressed one cannot be read at a position: gunzip it')):
        (folder / 'empty').mkdir(exist_ok=True)
        (folder / 'packed').mkdir(exist_ok=True)
        (folder / 'packed/a.tar.gz').touch()
        with pytest.raises(error, match=words):
            find_files(folder / given, ('tar',), 'tar shard', 'option')


def test_any_place_is_read_with_few_files_open(folder, monkeypatch):
    monkeypatch.setattr(shard_files, '_OPEN', 2)
    files = ShardFiles(folder, ['a0.tar', 'a1.tar', 'b/c.tar'])
    for _ in range(2):
        assert [files.read(number, 1, 3) for number in (0, 1, 2, 0)] == [b'0.t', b'1.t', b'/c.', b'0.t']
    assert len(files._open) == 2
    assert files.read(0, 55, 100) == b'0.tar'[:5]
    assert pickle.loads(pickle.dumps(files)).read(2, 0, 1) == b'b'


def test_a_file_that_is_removed_is_named(folder):
    files = ShardFiles(folder, ['a0.tar', 'a1.tar'])
    before = files.state(0)
    os.utime(folder / 'a0.tar', (1, 1))
    assert files.state(0) != before
    (folder / 'a1.tar').unlink()
    for call in (lambda: files.state(1), lambda: files.read(1, 0, 1)):
        with pytest.raises(MissingFile, match='a1.tar'):
            call()
