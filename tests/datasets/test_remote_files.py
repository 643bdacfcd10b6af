"""Shards and tables by URL are those of a folder; a network that fails is never a bad picture."""

import logging
import re
from pathlib import Path

import pytest
import torch

from tests.datasets.odd_servers import SERVERS
from tests.datasets.range_server import RangeServer
from tests.datasets.shard_samples import sample, write_shards_of, write_tar
from tests.datasets.table_samples import rows_of, write_parquet
from tests.helpers import take
from wfvae_toolkit.datasets import (
    ImageShards,
    ImageTable,
    SampleKey,
    block_cache,
    build_dataloader,
    open_images,
    remote_files,
    remote_settings,
    remote_store,
)
from wfvae_toolkit.datasets.shard_writer import write_shards
from wfvae_toolkit.utils.errors import MissingFile, SettingError, StorageError

COUNTS = [5, 2, 6]
PATTERN = '{00000..00002}.tar?sig=5ecret'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = write_shards_of(tmp_path_factory.mktemp('shards'), COUNTS)
    for compression in ('none', 'snappy'):
        write_parquet(folder / f'{compression}.parquet', rows_of(range(4)), compression=compression)
    return folder


@pytest.fixture
def server(folder, monkeypatch):
    for module in (block_cache, remote_files, remote_settings, remote_store):
        monkeypatch.setattr(module, 'BLOCK', 4096)
    with RangeServer(folder) as server:
        yield server


@pytest.fixture
def remote(tmp_path):
    return dict(cache_folder=str(tmp_path / 'cache'), deadline_s=20, read_ahead_mb=0)


def test_every_sample_is_that_of_the_folder(server, folder, remote):
    shards, local = ImageShards(f'{server.url}/{PATTERN}', remote=remote), ImageShards(folder)
    assert len(shards) == len(local) == sum(COUNTS)
    for index in range(len(local)):
        one, two = (dataset[SampleKey(index, index, 9)] for dataset in (shards, local))
        assert torch.equal(one.image, two.image)
        assert (one.path, one.bad) == (two.path, two.bad)
    assert shards.fields(3) == local.fields(3)
    assert str(shards.data_root) == server.url
    assert not shards.is_scanned


@pytest.mark.parametrize('name', ['none.parquet', 'snappy.parquet'])
def test_every_row_is_that_of_the_file(server, folder, remote, name):
    table = ImageTable(f'{server.url}/{name}', remote=remote, extra_keys=['label'])
    local = ImageTable(folder / name, extra_keys=['label'])
    for index in range(4):
        assert torch.equal(table[index].image, local[index].image)
        assert table[index].extras == local[index].extras


def loader(url, remote, batch_size=4, workers=0, rank=0, world_size=1, window=None):
    dataset = dict(type='ImageShards', data_root=url, remote=remote, shuffle_window=window,
                   pipeline=[dict(type='RandomCrop', size=16), dict(type='RandomFlip')])
    return build_dataloader(dict(batch_size=batch_size, num_workers=workers, dataset=dataset), training=True, seed=4,
                            rank=rank, world_size=world_size)


def test_order_and_resume_are_those_of_the_folder(server, folder, remote):
    url = f'{server.url}/{PATTERN}'
    for window in (None, 2):
        whole = take(loader(str(folder), None, window=window), 8)
        resumed = loader(url, remote, workers=int(window is not None), window=window)
        resumed.sampler.set_position(5 * 4)
        for one, two in zip(whole[5:], take(resumed, 3), strict=True):
            assert torch.equal(one.images, two.images)
            assert (one.paths, one.seeds) == (two.paths, two.seeds)


def test_index_and_blocks_are_used_again_by_the_next_process(server, remote, tmp_path):
    ImageShards(f'{server.url}/{PATTERN}', remote=remote)[12]
    before = len(server.requests)
    dataset = ImageShards(f'{server.url}/{PATTERN.replace("5ecret", "other")}', remote=remote)
    dataset[12]
    assert [last for _, _, last in server.requests[before:]] == [0, 0, 0]  # only the versions are asked for
    assert dataset.closing_remarks() == [
        f'{server.url}: 0.0 MB loaded in 0 requests, 0 of them again after a failure; the cache {tmp_path}/cache holds '
        '0.1 MB, and 0 files (0.0 MB) were evicted from it']
    kept = [path for path in (tmp_path / 'cache').iterdir() if b'5ecret' in path.read_bytes() or '5ecret' in path.name]
    assert kept == []


def test_in_a_window_each_byte_is_loaded_once_in_long_stretches(server, folder, remote):
    url, ahead = f'{server.url}/{PATTERN}', dict(remote, read_ahead_mb=0.016)
    ImageShards(url, remote=remote)  # makes the index
    for path in Path(remote['cache_folder']).glob('*.blocks'):
        path.unlink()
    before = len(server.requests)
    dataset = ImageShards(url, remote=ahead, shuffle_window=1)
    order = dataset.order(len(dataset), 0, True)
    for position in range(len(dataset)):
        dataset[order(position)]
    loaded = [request for request in server.requests[before:] if request[2]]
    sizes = {f'/{path.name}': path.stat().st_size for path in folder.glob('*.tar')}
    for path, size in sizes.items():
        own = sorted((first, min(last + 1, size)) for name, first, last in loaded if name.startswith(path))
        assert own[0][0] == 0
        assert all(end <= begin for (_, end), (begin, _) in zip(own, own[1:], strict=False))
    assert len(loaded) <= sum(-(-size // 16384) for size in sizes.values())


def test_failures_that_pass_are_tried_again_and_counted(server, folder, remote):
    server.answer = lambda path, number: {4: 'cut', 5: 503}.get(number)
    shards = ImageShards(f'{server.url}/{PATTERN}', remote=remote)
    assert shards.read(0) == ImageShards(folder).read(0)
    assert '2 of them again after a failure' in shards.closing_remarks()[0]


@pytest.mark.parametrize('odd', SERVERS, ids=lambda odd: odd.what)
def test_a_failing_server_makes_no_bad_file(server, folder, remote, odd, monkeypatch):
    shards = ImageShards(f'{server.url}/{PATTERN}', remote=remote)
    for path in Path(remote['cache_folder']).glob('*.blocks'):
        path.unlink()
    begun = len(server.requests)
    server.answer, server.tag = lambda path, number: odd.answers(number - begun), odd.tag
    if odd.error:
        with monkeypatch.context() as short:  # for the failure alone: a busy machine may take seconds for what is right
            short.setattr(remote_files.RemoteFiles, 'deadline_s', 0.6)
            with pytest.raises(StorageError, match=f'^{re.escape(f"{server.url}/00002.tar: {odd.error}")}') as caught:
                shards[12]
            assert '5ecret' not in str(caught.value)
            if 'removed' in odd.error:
                with pytest.raises(StorageError):  # and no size of zero
                    shards.picture_size(12)
        server.answer, server.tag = lambda path, number: None, ''
    assert shards[12].bad == ()
    assert torch.equal(shards[12].image, ImageShards(folder)[12].image)


def test_a_file_that_changes_ends_the_run(server, remote, folder, tmp_path):
    shards = ImageShards(f'{server.url}/{PATTERN}', remote=remote)
    for path in Path(remote['cache_folder']).glob('*.blocks'):
        path.unlink()
    server.tag = 'new'
    with pytest.raises(StorageError, match="00002.tar: it has changed while it was in use .*'a000new'.*: start again"):
        shards[12]
    server.tag = ''
    write_shards_of(tmp_path / 'other', [1, 2, 7])
    server.folder = tmp_path / 'other'
    with pytest.raises(StorageError, match='has changed while it was in use .* -> .* bytes'):
        shards[12]
    assert len(ImageShards(f'{server.url}/{PATTERN}', remote=remote)) == 10  # indexed anew


def test_what_is_not_there_or_no_data_is_named(server, remote):
    def opened(place, **settings):
        return ImageShards(place, remote=dict(remote, **settings))
    with pytest.raises(MissingFile, match=f'^{server.url}/no.tar is missing .HTTP 404 Not Found.'):
        opened(f'{server.url}/no.tar?sig=5ecret')
    with pytest.raises(StorageError, match='cannot connect to 127.0.0.1:9 .*nothing came for 0.1 s'):
        opened('http://127.0.0.1:9/a.tar', deadline_s=0.1)
    with pytest.raises(SettingError, match=r"a web server lists no folders. .*'http://h/a/\{00000..00127}.tar'"):
        opened('http://h/a/')
    with pytest.raises(SettingError, match="'gs://b/a.tar' .*: data are read by URL from http://, https:// and s3://"):
        opened('gs://b/a.tar')
    with pytest.raises(SettingError, match='use files of one server'):
        opened('http://{a,b}/a.tar')
    with pytest.raises(SettingError, match=r'^no picture in the 1 shards of .*none.parquet'):
        opened(f'{server.url}/none.parquet')


def test_a_deadline_is_shorter_than_the_loader_s(server, remote):
    dataset = dict(type='ImageShards', data_root=f'{server.url}/{PATTERN}', remote=remote)
    for form in (dataset, dict(type='MixedDataset', sources=dict(one=dict(weight=1, dataset=dataset)))):
        with pytest.raises(SettingError, match='deadline_s=20 would never count, .* after timeout_s=20: raise'):
            build_dataloader(dict(batch_size=1, num_workers=1, timeout_s=20, dataset=form), training=True)


def test_remote_is_refused_for_a_folder(folder, remote):
    with pytest.raises(SettingError, match=r'remote=.* is for data by URL, and .* is none: leave it out'):
        ImageShards(folder, remote=remote)


def test_every_tool_takes_a_url_as_data(server, folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    with caplog.at_level(logging.WARNING):
        assert len(open_images(f'{server.url}/{PATTERN}')) == sum(COUNTS)
        assert len(open_images(f'{server.url}/none.parquet')) == 4
    assert list((tmp_path / 'xdg/wfvae_toolkit').glob('*.wfvae_index'))
    assert '5ecret' not in caplog.text
    assert write_shards(f'{server.url}/{PATTERN}', tmp_path / 'copy').pictures == sum(COUNTS)


def test_a_cache_that_is_smaller_than_the_window_is_said(server, remote):
    shards = ImageShards(f'{server.url}/{PATTERN}', remote=dict(remote, cache_gb=0.05), shuffle_window=3)
    assert shards.remarks() == []
    shards.files._settings.cache_bytes = 60_000
    assert 'a window of 3 files has up to 0.000102 GB, and the cache 6e-05 GB' in shards.remarks()[0]


def test_a_cache_that_is_too_small_evicts_and_stays_within_its_limit(server, folder, remote):
    shards, local = ImageShards(f'{server.url}/{PATTERN}', remote=remote), ImageShards(folder)
    for path in Path(remote['cache_folder']).glob('*.blocks'):
        path.unlink()
    shards.files.cache.limit = 70_000
    for index in (*range(13), *range(13)):
        assert shards.read(index) == local.read(index)
        assert shards.files.cache.counts().held <= 70_000
    assert sum(path.stat().st_blocks * 512 for path in Path(remote['cache_folder']).glob('*.blocks')) <= 70_000
    assert ' 0 files' not in shards.closing_remarks()[0]


def test_a_shard_with_bad_pictures_has_them_by_url_too(server, remote, tmp_path):
    write_tar(tmp_path / 'bad.tar', [*sample(0), ('b.jpg', b'text')])
    server.folder = tmp_path
    assert ImageShards(f'{server.url}/bad.tar', remote=remote, on_bad='report')[1].bad[0].reason.startswith('not an im')
