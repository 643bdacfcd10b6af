"""The index is what the shards hold, whatever became of its file."""

import multiprocessing
import os
import warnings

import numpy as np
import pytest

from tests.datasets.shard_samples import sample, write_shards_of, write_tar
from wfvae_toolkit.datasets import ImageShards, shard_index
from wfvae_toolkit.datasets.shard_files import find_files
from wfvae_toolkit.datasets.shard_index import build_index, open_index, read_index

INDEX = 'shards.wfvae_index'


@pytest.fixture
def folder(tmp_path):
    return write_shards_of(tmp_path / 'shards', [3, 1, 4])


@pytest.fixture
def scanned(monkeypatch):
    """Names of the shards that are scanned from now on."""
    names, index_tar = [], shard_index.index_tar

    def scan(files, number, state):
        names.append(files.names[number])
        return index_tar(files, number, state)
    monkeypatch.setattr(shard_index, 'index_tar', scan)
    return names


def open_of(folder):
    return open_index(find_files(folder, ('tar',), 'tar shard', '')[0], folder / INDEX, shard_index.index_tar)


def assert_same(one, two):
    assert one.shards == two.shards
    assert one.tensors.keys() == two.tensors.keys()
    for name, values in one.tensors.items():
        if name != 'member_extension':
            np.testing.assert_array_equal(values, two.tensors[name], name)
    members = range(len(one.member_start))
    assert [one.extension(member) for member in members] == [two.extension(member) for member in members]


def fresh(folder):
    files = find_files(folder, ('tar',), 'tar shard', '')[0]
    return build_index(files, [files.state(number) for number in range(len(files.names))], shard_index.index_tar)


def test_it_holds_every_member_by_key(folder):
    index = open_of(folder)
    assert [index.key(number) for number in range(8)] == [f'{number:09d}' for number in range(8)]
    assert index.shard_keys.tolist() == [0, 3, 4, 8]
    for key in range(8):
        members = range(*index.key_members[key:key + 2])
        assert [index.extension(member) for member in members] == ['jpg', 'json', 'txt']
        shard = int(np.searchsorted(index.shard_keys, key, 'right')) - 1
        data = (folder / f'{shard:05d}.tar').read_bytes()
        for member, (_, content) in zip(members, sample(key), strict=True):
            start = index.member_start[member]
            assert data[start:start + index.member_size[member]] == content


def test_a_second_start_scans_nothing_and_a_change_only_its_shard(folder, scanned):
    first = open_of(folder)
    assert sorted(scanned) == ['00000.tar', '00001.tar', '00002.tar']
    scanned.clear()
    assert_same(open_of(folder), first)
    assert scanned == []
    write_tar(folder / '00001.tar', sample(1) + sample(2))
    write_tar(folder / '00000a.tar', sample(9))
    (folder / '00002.tar').unlink()
    changed = open_of(folder)
    assert sorted(scanned) == ['00000a.tar', '00001.tar']
    assert_same(changed, fresh(folder))


def test_members_of_a_key_need_not_be_neighbours(tmp_path):
    members = sample(0) + sample(1)
    write_tar(tmp_path / 'apart.tar', [members[number] for number in (0, 3, 1, 4, 2, 5)])
    index = open_of(tmp_path)
    assert index.key_members.tolist() == [0, 3, 6]
    assert [index.extension(member) for member in range(6)] == ['jpg', 'json', 'txt'] * 2


def test_shards_are_scanned_by_several_processes_alike(folder, monkeypatch):
    alone = fresh(folder)
    monkeypatch.setattr(shard_index, '_SMALL', 0)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 1}, raising=False)
    assert_same(fresh(folder), alone)


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: data[:100], lambda data: data[:-8], lambda data: b'\xff' * 8 + data[8:],
    lambda data: data.replace(b'shard index 1', b'shard index 2'), lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    lambda data: data.replace(b'"I64"', b'"F64"', 1)],
    ids=['empty', 'in its header', 'at its end', 'length', 'version', 'one bit', 'type'])
def test_a_damaged_file_is_made_again(folder, damage):
    whole = open_of(folder)
    (folder / INDEX).write_bytes(damage((folder / INDEX).read_bytes()))
    with pytest.warns(UserWarning, match='no usable index .*every file is indexed again'):
        assert_same(open_of(folder), whole)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert_same(open_of(folder), whole)


def test_any_changed_bit_is_noticed(folder):
    whole = open_of(folder)
    data = (folder / INDEX).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 100):
        changed = data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1:]
        (folder / INDEX).write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            index = read_index(folder / INDEX)
        if index is not None:  # a blank of the padding, or the order of two keys
            assert_same(index, whole)


def test_a_place_that_cannot_be_written_gives_a_warning(folder, monkeypatch):
    def refuse(*arguments, **settings):
        raise PermissionError(13, 'Permission denied')
    monkeypatch.setattr(shard_index, 'atomic_write', refuse)
    with pytest.warns(UserWarning, match='not kept, and is made anew at each start: .*denied; index_folder names'):
        assert len(open_of(folder).shards) == 3
    assert read_index(folder / INDEX) is None


def test_an_index_folder_keeps_one_index_for_each_data_set(folder, tmp_path):
    for data_root in (folder, folder / '00000.tar', f'{folder}/{{00000..00001}}.tar'):
        ImageShards(data_root, index_folder=tmp_path / 'kept')
    assert len(list((tmp_path / 'kept').glob('*.wfvae_index'))) == 3
    assert not list(folder.glob('*.wfvae_index'))


def _open(folder, results):
    results.put(len(open_of(folder).member_start))


def test_processes_that_start_together_agree(folder):
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    processes = [context.Process(target=_open, args=(folder, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [24] * 4
    for process in processes:
        process.join()
