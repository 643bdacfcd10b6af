"""Blocks of remote files on a disk: shared, bounded, and never taken for what they are not."""

import multiprocessing
import os
import pickle
import threading
import time

import numpy as np
import pytest

from wfvae_toolkit.datasets import block_cache
from wfvae_toolkit.datasets.block_cache import BlockCache
from wfvae_toolkit.utils.files import WriteError

BLOCK = 2**12


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(block_cache, 'BLOCK', BLOCK)


def content(number, blocks=1):
    return np.random.default_rng(number).bytes(blocks * BLOCK)


def test_blocks_are_kept_at_their_places(tmp_path):
    file = BlockCache(tmp_path, 10**6).file('a', 5)
    assert file.read(0, 5) == [None] * 5
    file.write(1, content(1, 2))
    file.write(4, b'the last is shorter')
    assert BlockCache(tmp_path, 10**6).file('a', 5).read(0, 5) == [
        None, content(1, 2)[:BLOCK], content(1, 2)[BLOCK:], None, b'the last is shorter']


def test_a_damaged_block_is_not_there(tmp_path):
    file = BlockCache(tmp_path, 10**6).file('a', 2)
    file.write(0, content(1, 2))
    with open(tmp_path / 'a.blocks', 'r+b') as damaged:
        damaged.seek(4096 + BLOCK + 7)
        damaged.write(b'?')
    assert file.read(0, 2) == [content(1, 2)[:BLOCK], None]
    os.truncate(tmp_path / 'a.blocks', 4096 + BLOCK)
    assert file.read(0, 2) == [content(1, 2)[:BLOCK], None]


def test_the_files_that_were_used_longest_ago_are_evicted_and_counted(tmp_path):
    cache = BlockCache(tmp_path, 16 * 2 * BLOCK)
    files = [cache.file(str(number), 1) for number in range(16)]
    before = cache.counts()
    for number, file in enumerate(files):
        cache.reserve(BLOCK)
        file.write(0, content(number))
        os.utime(tmp_path / f'{number}.blocks', (number, number))
    assert cache.counts().since(before) == (16 * 2 * BLOCK, 0, 0, 0, 0, 0)  # a table beside each block
    cache.reserve(16 * BLOCK)
    left = sorted(int(path.stem) for path in tmp_path.glob('*.blocks'))
    counts = cache.counts()
    assert left == list(range(16 - len(left), 16))
    assert counts.evicted_files == 16 - len(left) > 0
    assert counts.evicted == counts.evicted_files * 2 * BLOCK
    assert counts.held <= cache.limit
    assert files[0].is_gone()
    assert files[0].read(0, 1) == [None]
    assert cache.file('0', 1).read(0, 1) == [None]
    assert (tmp_path / '0.blocks').exists()


def use_cache(folder, seed, failed):
    cache, rng = BlockCache(folder, 15 * BLOCK), np.random.default_rng(seed)
    for _ in range(60):
        number = int(rng.integers(12))
        with cache.one_at_a_time(str(number), 0):
            found, = cache.file(str(number), 4).read(2, 3)
            if found is None:
                cache.reserve(BLOCK)
                cache.file(str(number), 4).write(2, content(number))
            elif found != content(number):
                failed.set()


def test_processes_share_a_folder_that_is_too_small_for_them(tmp_path):
    context = multiprocessing.get_context('fork')
    failed = context.Event()
    processes = [context.Process(target=use_cache, args=(tmp_path, seed, failed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert not failed.is_set()
    cache = BlockCache(tmp_path, 15 * BLOCK)
    assert cache.counts().evicted_files > 0
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.glob('*.blocks')) <= 15 * BLOCK


def test_one_thread_at_a_time_loads_a_stretch(tmp_path):
    cache, inside = pickle.loads(pickle.dumps(BlockCache(tmp_path, 10**6))), []

    def load():
        with cache.one_at_a_time('a', 3):
            inside.append(1)
            time.sleep(0.01)
            assert len(inside) == 1
            inside.pop()
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='file/cache: not written: .*its folder is a file'):
        BlockCache(tmp_path / 'file/cache', 10**6)
