"""Shards are a folder of the same pictures: rules, order and resume."""

import collections
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.datasets.shard_samples import encoded, many_members, sample, write_shards_of, write_tar
from tests.helpers import take
from wfvae_toolkit.datasets import ImageFolder, ImageShards, SampleKey, build_dataloader, open_images
from wfvae_toolkit.utils.errors import SettingError

CROP = [{'type': 'RandomCrop', 'size': 16, 'scale': (0.6, 1.2)}, {'type': 'RandomFlip'}]
COUNTS = [5, 2, 6]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Thirteen samples in three shards; the picture of the fourth is truncated."""
    folder = write_shards_of(tmp_path_factory.mktemp('shards'), COUNTS)
    members = [member for number in range(5) for member in sample(number, encoded(3)[:300] if number == 3 else None)]
    write_tar(folder / '00000.tar', members)
    return folder


@pytest.fixture(scope='module')
def unpacked(tmp_path_factory):
    """The pictures as a folder."""
    folder = tmp_path_factory.mktemp('unpacked')
    for number in range(sum(COUNTS)):
        (folder / f'{number:09d}.jpg').write_bytes(encoded(3)[:300] if number == 3 else encoded(number))
    return folder


def loader(folder, batch_size=3, workers=0, rank=0, world_size=1, **dataset):
    return build_dataloader({'batch_size': batch_size, 'num_workers': workers, 'dataset': {
        'type': 'ImageShards', 'data_root': str(folder), 'pipeline': CROP, **dataset}},
        training=True, seed=4, rank=rank, world_size=world_size)


def same(one, two):
    return torch.equal(one.images, two.images) and vars(one) | {'images': 0} == vars(two) | {'images': 0}


@pytest.mark.parametrize('settings', [{}, {'decoder': 'fast', 'pipeline': [{'type': 'ResizeShortSide', 'size': 8},
                                                                           {'type': 'CenterCrop', 'size': 8}]}])
def test_every_sample_is_that_of_the_folder(folder, unpacked, settings):
    shards, pictures = ImageShards(folder, **settings), ImageFolder(unpacked, **settings)
    assert len(shards) == len(pictures) == sum(COUNTS)
    for index in range(len(pictures)):
        one, two = (dataset[SampleKey(index, index, 9)] for dataset in (shards, pictures))
        assert torch.equal(one.image, two.image)
        assert (one.index, one.seed) == (two.index, two.seed)
        assert one.path.endswith(f'.tar/{two.path}')
        assert [bad.reason for bad in one.bad] == [bad.reason for bad in two.bad]
    assert shards[SampleKey(3, 0, 0)].bad[0].path == '00000.tar/000000003.jpg'


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
@pytest.mark.parametrize('window', [None, 2])
def test_order_and_resume_are_exact_for_any_workers_and_ranks(folder, window):
    whole = take(loader(folder, 4, shuffle_window=window), 8)
    for workers in (1, 3):
        resumed = loader(folder, 4, workers, shuffle_window=window)
        resumed.sampler.set_position(5 * 4)
        assert all(same(one, two) for one, two in zip(whole[5:], take(resumed, 3), strict=True))
    ranks = [take(loader(folder, 2, rank=rank, world_size=2, shuffle_window=window), 8) for rank in range(2)]
    for expected, *parts in zip(whole, *ranks, strict=True):
        rows = {position: part.images[row] for part in parts for row, position in enumerate(part.positions)}
        assert torch.equal(torch.stack([rows[position] for position in expected.positions]), expected.images)


def test_only_the_bytes_of_the_samples_that_are_asked_for_are_read(folder):
    dataset = ImageShards(folder)
    read, places = dataset.files.read, []
    dataset.files.read = lambda number, start, length: places.append((number, length)) or read(number, start, length)
    dataset[SampleKey(12, 10**6, 0)]
    assert places == [(2, 512 + len(encoded(12)))]


def test_extra_fields_come_from_text_and_json(folder, tmp_path):
    dataset = ImageShards(folder, extra_keys=['txt', 'caption', 'width'])
    assert dataset.has_extras
    assert dataset[7].extras == {'txt': 'text 7', 'caption': 'number 7', 'width': 24}
    assert dataset.fields(7) == {'caption': 'number 7', 'width': 24}
    write_tar(tmp_path / 'masked.tar', [('a.png', encoded(0, form='PNG')), ('a.mask.png', encoded(1, form='PNG'))])
    masked = ImageShards(tmp_path / 'masked.tar', mask_keys=['mask.png'], on_bad='report')[0]
    assert masked.bad[0].reason == 'mask: a mask of mode RGB; one channel of 8 bits is needed'


def test_what_is_passed_over_is_said_once(tmp_path):
    write_shards_of(tmp_path, [2, 1])
    write_tar(tmp_path / '00002.tar', [*sample(9), ('b.txt', b''), ('README', b'')])
    (tmp_path / '00000_stats.json').write_text('{}')
    content = (tmp_path / '00001.tar').read_bytes().rstrip(b'\0')
    (tmp_path / '00001.tar').write_bytes(content + bytes(-len(content) % 512))
    dataset = ImageShards(tmp_path)
    assert ImageShards(tmp_path).remarks() == dataset.remarks()  # by the index, which does not count itself
    first, second, third = dataset.remarks()
    assert first.endswith('4 pictures in 3 shards; 2 other members are passed over: 1 without suffix, 1 keys without a '
                          'picture')
    assert second.endswith('1 other files are passed over: 1 .json')
    assert '00001.tar: ' in third
    assert third.endswith('; the 1 pictures before that are used')


def test_a_shard_that_changes_while_it_is_read_ends_the_run(tmp_path):
    write_shards_of(tmp_path, [2])
    dataset = ImageShards(tmp_path)
    write_tar(tmp_path / '00000.tar', [('other.jpg', encoded(5)), *sample(0)])
    with pytest.raises(SettingError, match='00000.tar has changed since it was indexed: start again'):
        dataset[SampleKey(1, 0, 0)]


def test_no_picture_names_the_extensions_that_there_are(tmp_path):
    write_tar(tmp_path / '00000.tar', [('a.left.jpg', encoded(0)), ('a.json', b'{}')])
    with pytest.raises(SettingError, match='one of .*jpg.*; the shards hold json, left.jpg; .*1 keys without'):
        ImageShards(tmp_path)
    with pytest.raises(SettingError, match='shuffle_window=0'):
        ImageShards(tmp_path, shuffle_window=0)


def test_every_tool_takes_them_as_data(folder, tmp_path, caplog):
    for data in (folder, folder / '00001.tar', f'{folder}/{{00001..00001}}.tar'):
        dataset = open_images(data)
        assert isinstance(dataset, ImageShards)
        assert dataset.path(len(dataset) - 1).startswith('0000')
    write_tar(tmp_path / 'a.tar', sample(0))
    (tmp_path / 'b.jpg').write_bytes(encoded(1))
    assert isinstance(open_images(tmp_path), ImageFolder)  # said: 1 .tar is passed over
    assert '1 pictures; 1 other files are passed over: 1 .tar' in caplog.text


def test_a_source_of_a_mixture_keeps_its_window(folder, unpacked):
    sources = {name: {'weight': 1, 'dataset': dataset} for name, dataset in {
        'shards': {'type': 'ImageShards', 'data_root': str(folder), 'shuffle_window': 1},
        'folder': {'type': 'ImageFolder', 'data_root': str(unpacked)}}.items()}
    mixed = build_dataloader({'batch_size': 1, 'dataset': {'type': 'MixedDataset', 'sources': sources}}, training=True)
    order = mixed.dataset.order(len(mixed.dataset), 0, True)
    drawn = [index for index in map(order, range(200)) if index < sum(COUNTS)][:sum(COUNTS)]
    of_shard = np.searchsorted(np.cumsum(COUNTS), drawn, 'right')
    assert collections.Counter(of_shard.tolist()) == dict(enumerate(COUNTS))
    assert (np.diff(of_shard) != 0).sum() == len(COUNTS) - 1  # one shard after another


@pytest.mark.slow
def test_a_worker_needs_no_more_memory_for_a_million_pictures(tmp_path):
    """Beside the interpreter: the index of a million members is shared, not copied."""
    for shard in range(10):  # of bad pictures: only memory counts
        (tmp_path / f'{shard:05d}.tar').write_bytes(many_members(100_000 * shard, 100_000))
    dataset = ImageShards(tmp_path, on_bad='report')
    assert len(dataset) == 10**6
    process = os.fork()
    if not process:
        for index in range(0, 10**6, 997):
            dataset[index]
        own_kb = sum(int(line.split()[1]) for line in Path('/proc/self/smaps_rollup').read_text().splitlines()
                     if line.startswith('Private_'))
        os._exit(own_kb > 100_000)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
