"""Shards and tables behind Debian's nginx: ranges, throttled, cut, missing, changed; `make test-remote`."""

import sys
import threading
import time

import pytest
from run_files import assert_same_run, read_csv

from tests.datasets.shard_samples import write_shards_of
from tests.remote.servers import Nginx, remove_blocks
from wfvae_toolkit.datasets import ImageShards, ImageTable, shard_index
from wfvae_toolkit.utils.errors import MissingFile, StorageError

PATTERN = '{00000..00002}.tar'


@pytest.mark.parametrize('place', ['', 'moved/', 'slow/'])
def test_shards_are_those_of_the_folder(nginx, folder, remote, assert_same, place, monkeypatch):
    if place:
        monkeypatch.setattr(shard_index, '_SMALL', 0)  # indexed by several processes
    assert_same(ImageShards(f'{nginx.url}/{place}{PATTERN}', remote=remote), ImageShards(f'{folder}/{PATTERN}'))


@pytest.mark.parametrize('name', ['none.parquet', 'zstd.parquet'])
def test_tables_are_those_of_the_folder(nginx, folder, remote, assert_same, name):
    assert_same(ImageTable(f'{nginx.url}/{name}', remote=remote), ImageTable(folder / name))


def test_a_throttled_server_is_slow_and_no_failure(nginx, folder, remote, assert_same):
    begun = time.monotonic()
    shards = ImageShards(f'{nginx.url}/slow/large.tar', remote=remote)
    assert_same(shards, ImageShards(folder / 'large.tar'))
    assert time.monotonic() - begun > remote['deadline_s']  # which counts from the last block
    assert ' 0 of them again after a failure' in shards.closing_remarks()[0]


def test_a_cut_connection_goes_on_where_it_was(nginx, folder, remote):
    shards = ImageShards(f'{nginx.url}/slow/large.tar', remote=dict(remote, deadline_s=60))
    remove_blocks(remote['cache_folder'])

    def restart():
        nginx.kill()
        time.sleep(0.5)
        nginx.start()
    timer = threading.Timer(1.0, restart)
    timer.start()
    size = (folder / 'large.tar').stat().st_size
    before = shards.files.cache.counts()
    assert shards.files.read(0, 0, size) == (folder / 'large.tar').read_bytes()
    timer.join()
    counts = shards.files.cache.counts().since(before)
    assert counts.loaded == size  # what had come was kept
    assert counts.retries >= 1


def test_credentials_of_a_url_are_sent_and_not_shown(nginx, folder, remote, assert_same):
    private = f'{nginx.url}/private/{PATTERN}'.replace('http://', 'http://user:5ecret@')
    shards = ImageShards(private, remote=remote)
    assert_same(shards, ImageShards(f'{folder}/{PATTERN}'))
    assert '5ecret' not in f'{shards.closing_remarks()}{shards.data_root}{shards.path(0)}'
    with pytest.raises(StorageError, match='HTTP 401 Unauthorized: are the credentials right') as caught:
        ImageShards(private.replace('5ecret', 'w5ong'), remote=remote)
    assert 'w5ong' not in str(caught.value)


def test_what_is_missing_and_what_gives_no_ranges(nginx, remote):
    with pytest.raises(MissingFile, match='/no.tar is missing .HTTP 404 Not Found'):
        ImageShards(f'{nginx.url}/no.tar', remote=remote)
    with pytest.raises(StorageError, match='the server sends whole files, not ranges of bytes'):
        ImageShards(f'{nginx.url}/whole/{PATTERN}', remote=remote)


def test_a_file_that_is_replaced_or_removed_ends_the_run(tmp_path, remote):
    (tmp_path / 'logs').mkdir()
    served = write_shards_of(tmp_path / 'served', [3])
    tmp_path.chmod(0o755)
    server = Nginx(served, tmp_path / 'logs')
    try:
        shards = ImageShards(f'{server.url}/00000.tar', remote=remote)
        remove_blocks(remote['cache_folder'])
        time.sleep(1.1)  # nginx makes the ETag of size and whole seconds
        write_shards_of(served, [3])
        with pytest.raises(StorageError, match='00000.tar: it has changed while it was in use .*: start again'):
            shards[0]
        shards = ImageShards(f'{server.url}/00000.tar', remote=remote)
        remove_blocks(remote['cache_folder'])
        (served / '00000.tar').unlink()
        with pytest.raises(StorageError, match='it has been removed while it was in use .HTTP 404'):
            shards[0]
    finally:
        server.kill()


CONFIG = 'tests/cluster/tiny.py'
LENGTH = 64


def training(launch, url, cache, work_dir, *more, check=True):
    dataset = ("dict(type='ImageShards', data_root='{}', shuffle_window=1, remote=dict(cache_folder='{}', "
               "deadline_s=3), pipeline=[dict(type='RandomCrop', size=16), dict(type='RandomFlip')])")
    return launch(sys.executable, 'tools/train.py', CONFIG, '--work-dir', work_dir, *more, '--cfg-options',
                  f'train_dataloader.dataset={dataset.format(url, cache)}', 'train_dataloader.num_workers=2',
                  f'train_cfg.max_iters={LENGTH}', 'train_cfg.val_interval=1000',
                  'default_hooks.checkpoint.interval=4', check=check)


def test_a_training_stops_with_one_line_when_the_server_dies_and_resumes_exactly(launch, tmp_path):
    (tmp_path / 'logs').mkdir()
    served = write_shards_of(tmp_path / 'served', [32] * 4)  # of 16 updates each
    tmp_path.chmod(0o755)
    server = Nginx(served, tmp_path / 'logs')
    url, cache = f'{server.url}/{{00000..00003}}.tar', tmp_path / 'cache'
    try:
        training(launch, url, cache, tmp_path / 'whole')
        remove_blocks(cache)
        asked = len(server.requests())
        running = threading.Event()

        def kill():
            while not running.is_set():
                shards = set(server.requests()[asked + 4:])  # without the question for versions
                if len(shards) >= 3:
                    server.kill()
                    return
                time.sleep(0.005)
        killer = threading.Thread(target=kill)
        killer.start()
        stopped = training(launch, url, cache, tmp_path / 'run', check=False)
        running.set()
        killer.join()
        assert stopped.returncode == 1
        errors = [line for line in stopped.stderr.splitlines() if line.startswith('error: ')]
        assert len(errors) == 1
        assert f'{server.url}/0000' in errors[0]
        assert '; nothing came for 3 s (deadline_s of remote). No picture counts as bad' in errors[0]
        assert 'Traceback' not in stopped.stderr
        assert not (tmp_path / 'run/bad_files.jsonl').exists()
        reached = int(read_csv(tmp_path / 'run/train.csv')[-1]['iteration'])
        assert 4 <= reached < LENGTH
        assert (tmp_path / f'run/iter_{reached}.pth').exists()
        server.start()
        again = training(launch, url, cache, tmp_path / 'run', '--resume')
        assert 'resumed from' in again.stdout + again.stderr
        assert 'MB loaded in' in again.stdout + again.stderr
    finally:
        server.kill()
    assert_same_run(tmp_path / 'run', tmp_path / 'whole', LENGTH)
    print(f'stopped after iteration {reached} of {LENGTH}: {errors[0]}')
