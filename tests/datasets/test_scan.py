import json
import multiprocessing
import os
import shutil
import time
import warnings
from pathlib import Path

import pytest

from wfvae_toolkit.datasets import ImageFolder, scan, scan_folder


@pytest.fixture
def tree(tmp_path):
    for name in ('1.png', 'a/2.png', 'a/deep/3.jpg', 'b/4.png', 'b/notes.txt'):
        path = tmp_path / 'root' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'root'


@pytest.fixture
def listed(monkeypatch):
    """Folders listed since the last ``clear()``, in a time when every change is long ago."""
    folders = []
    real = scan._list_folder
    monkeypatch.setattr(scan, '_list_folder', lambda path, *rest: folders.append(path.name) or real(path, *rest))
    monkeypatch.setattr(scan.time, 'time_ns', lambda now=time.time_ns: now() + 10**12)
    return folders


def swap(tree):
    """Another folder in the place of b, its times set back to those of the old one."""
    before = os.stat(tree / 'b')
    (tree.parent / 'other').mkdir()
    (tree.parent / 'other/5.png').touch()
    (tree.parent / 'other/notes.txt').touch()
    shutil.rmtree(tree / 'b')
    (tree.parent / 'other').rename(tree / 'b')
    os.utime(tree / 'b', ns=(before.st_atime_ns, before.st_mtime_ns))


def change_and_hide(tree):
    before = os.stat(tree / 'b')
    (tree / 'b/6.png').touch()
    os.utime(tree / 'b', ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    'file added': (lambda tree: (tree / 'b/5.png').touch(), {'b'}),
    'file removed': (lambda tree: (tree / 'a/2.png').unlink(), {'a'}),
    'last file of a folder removed': (lambda tree: (tree / 'a/deep/3.jpg').unlink(), {'deep'}),
    'file renamed': (lambda tree: (tree / 'a/2.png').rename(tree / 'a/9.png'), {'a'}),
    'file moved': (lambda tree: (tree / 'a/2.png').rename(tree / 'b/2.png'), {'a', 'b'}),
    'file renamed to no picture': (lambda tree: (tree / 'a/2.png').rename(tree / 'a/2.txt'), {'a'}),
    'subfolder added': (lambda tree: shutil.copytree(tree / 'a/deep', tree / 'b/new'), {'b', 'new'}),
    'folder removed': (lambda tree: shutil.rmtree(tree / 'b'), {'root'}),
    'folder renamed': (lambda tree: (tree / 'a').rename(tree / 'z'), {'root', 'z', 'deep'}),
    'folder replaced': (swap, {'root', 'b'}),
    'mtime set back': (change_and_hide, {'b'})}


@pytest.mark.parametrize('change', CHANGES)
def test_a_change_is_noticed_and_only_its_folder_listed(tree, tmp_path, listed, change):
    cache = tmp_path / 'scans/cache.jsonl'
    first = scan_folder(tree, cache=cache)
    assert first == ['1.png', 'a/2.png', 'a/deep/3.jpg', 'b/4.png']
    assert sorted(listed) == ['a', 'b', 'deep', 'root']
    listed.clear()
    content = cache.read_bytes()
    assert scan_folder(tree, cache=cache) == first
    assert listed == []
    assert cache.read_bytes() == content
    time.sleep(0.02)  # past the tick of the file system's clock
    make, folders = CHANGES[change]
    make(tree)
    changed = scan_folder(tree, cache=cache)
    assert set(listed) <= folders
    assert changed == scan_folder(tree)
    listed.clear()
    assert scan_folder(tree, cache=cache) == changed
    assert listed == []


def test_a_folder_that_changed_lately_is_listed_again(tree, tmp_path):
    """No clock is fine enough to tell two changes within one of its ticks."""
    cache = tmp_path / 'cache'
    for number in range(30):
        (tree / f'b/more_{number}.png').touch()
        assert len(scan_folder(tree, cache=cache)) == 5 + number


def spoil(text):
    lines = text.splitlines(keepends=True)
    return {'empty': '', 'no JSON': 'abc', 'other JSON': '[1, 2]\n', 'number': '3', 'deep': '[' * 100_000,
            'torn': text[:-9], 'a line less': ''.join(lines[:-1]), 'a name less': text.replace('2.png', ''),
            'other format': text.replace('folder scan 2', 'folder scan 1')}


@pytest.mark.parametrize('damage', spoil(''))
def test_a_damaged_cache_is_ignored_with_a_warning_and_rewritten(tree, tmp_path, listed, damage):
    cache = tmp_path / 'cache'
    expected = scan_folder(tree, cache=cache)
    good = cache.read_text()
    cache.write_text(spoil(good)[damage])
    with pytest.warns(UserWarning, match='cache: no usable scan cache'):
        assert scan_folder(tree, cache=cache) == expected
    assert cache.read_text() == good
    listed.clear()
    assert scan_folder(tree, cache=cache) == expected
    assert listed == []


def test_a_cache_that_cannot_be_written_is_a_warning(tree, tmp_path, listed):
    (tmp_path / 'file').touch()
    with (pytest.warns(UserWarning, match='no usable scan cache'),
          pytest.warns(UserWarning, match='the scan is not cached')):
        assert len(scan_folder(tree, cache=tmp_path / 'file/cache')) == 4


def test_other_extensions_and_other_roots_do_not_mix(tree, tmp_path, listed):
    cache = tmp_path / 'cache'
    scan_folder(tree, cache=cache)
    assert scan_folder(tree, ['JPG'], cache) == ['a/deep/3.jpg']
    assert scan_folder(tree / 'a', cache=cache) == ['2.png', 'deep/3.jpg']
    assert len(scan_folder(tree, cache=cache)) == 4


@pytest.mark.skipif(os.name != 'posix', reason='needs symbolic links')
def test_what_a_link_leads_to_is_looked_at_each_time(tree, tmp_path, listed):
    (tree / 'disk').symlink_to(tmp_path / 'mounted')
    (tree / 'loop').symlink_to(tree)
    cache = tmp_path / 'cache'
    assert len(scan_folder(tree, cache=cache)) == 4
    shutil.copytree(tree / 'b', tmp_path / 'mounted')
    assert scan_folder(tree, cache=cache) == scan_folder(tree) == [
        '1.png', 'a/2.png', 'a/deep/3.jpg', 'b/4.png', 'disk/4.png']
    shutil.rmtree(tmp_path / 'mounted')
    assert len(scan_folder(tree, cache=cache)) == 4


@pytest.mark.skipif(os.name != 'posix', reason='needs names that are not UTF-8')
def test_any_file_name(tree, tmp_path, listed):
    names = ['\udcff.png', 'new\nline.png', 'ü "q".png', 'back\\slash.png']
    for name in names:
        (tree / 'a' / name).touch()
    cache = tmp_path / 'cache'
    expected = scan_folder(tree)
    assert {f'a/{name}' for name in names} < set(expected)
    assert scan_folder(tree, cache=cache) == scan_folder(tree, cache=cache) == expected
    assert all(json.loads(line) for line in cache.read_text(encoding='ascii').splitlines())


def scan_often(root, cache, done):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        scan.time.time_ns = lambda now=time.time_ns: now() + 10**12
        for number in range(40):
            (Path(root) / f'b/{os.getpid()}_{number}.png').touch()
            scan_folder(root, cache=cache)
    done.put(os.getpid())


def test_several_ranks_may_race(tree, tmp_path, listed):
    context = multiprocessing.get_context('fork')
    done = context.Queue()
    processes = [context.Process(target=scan_often, args=(tree, tmp_path / 'cache', done)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert scan_folder(tree, cache=tmp_path / 'cache') == scan_folder(tree)
    assert not list(tmp_path.glob('.cache*'))


def test_a_dataset_takes_it(tree, tmp_path, listed):
    for _ in range(2):
        assert len(ImageFolder(tree, scan_cache=tmp_path / 'cache')) == 4
    assert sorted(listed) == ['a', 'b', 'deep', 'root']
