
import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import take
from wfvae_toolkit.datasets import BadFile, Batch, ImageDataset, SampleError, build_dataloader, load_rgb
from wfvae_toolkit.datasets import base as base_module
from wfvae_toolkit.registry import DATASETS

PIPELINE = [{'type': 'RandomCrop', 'size': 16, 'scale': (0.6, 1.2)}, {'type': 'RandomFlip'}]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """11 pictures of several sizes, the fifth and sixth truncated."""
    root = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(0)
    for number in range(11):
        size = (24 + 2 * number, 40 - number, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(root / f'{number:02d}.png')
    for name in ('04.png', '05.png'):
        (root / name).write_bytes((root / name).read_bytes()[:500])
    return root


def config(root, batch_size=3, num_workers=0, pipeline=PIPELINE, **dataset):
    return {'batch_size': batch_size, 'num_workers': num_workers,
            'dataset': {'type': 'ImageFolder', 'data_root': str(root), 'pipeline': pipeline, **dataset}}


def same(one, two):
    return torch.equal(one.images, two.images) and vars(one) | {'images': 0} == vars(two) | {'images': 0}


def test_a_training_batch(folder):
    batch = take(build_dataloader(config(folder), training=True, seed=4), 1)[0]
    assert isinstance(batch, Batch)
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.positions == [0, 1, 2]
    assert batch.paths == [f'{index:02d}.png' for index in batch.indices]
    assert len(batch) == len(batch.seeds) == 3


@pytest.mark.filterwarnings('ignore:This DataLoader will create')  # PyTorch's, on machines with few cores
def test_batches_do_not_depend_on_workers(folder):
    loaders = [build_dataloader(config(folder, num_workers=workers), training=True, seed=4) for workers in range(4)]
    expected, *others = [take(loader, 10) for loader in loaders]
    assert {index for batch in expected for index in batch.indices} == set(range(11)) - {4, 5}
    for batches in others:
        assert all(same(one, two) for one, two in zip(expected, batches, strict=True))


@pytest.mark.parametrize('workers', [0, 2])
def test_resuming_reads_no_skipped_sample(folder, workers, tmp_path, monkeypatch):
    def read(path, *options):
        with open(tmp_path / 'reads', 'a') as file:  # workers are other processes
            file.write('x')
        return load_rgb(path, *options)

    whole = take(build_dataloader(config(folder), training=True, seed=4), 9)
    monkeypatch.setattr(base_module, 'load_rgb', read)
    loader = build_dataloader(config(folder, num_workers=workers), training=True, seed=4)
    loader.sampler.set_position(7 * 3)
    resumed = take(loader, 2)
    assert all(same(one, two) for one, two in zip(whole[7:], resumed, strict=True))
    if workers == 0:
        used = sum(len(batch) + len(batch.bad) for batch in resumed)
        assert len((tmp_path / 'reads').read_text()) == used


def test_two_ranks_together_are_one_process(folder):
    one = take(build_dataloader(config(folder, 4), training=True, seed=4), 6)
    ranks = [take(build_dataloader(config(folder, 2), training=True, seed=4, rank=rank, world_size=2), 6)
             for rank in range(2)]
    for whole, *parts in zip(one, *ranks, strict=True):
        rows = {position: part.images[row] for part in parts for row, position in enumerate(part.positions)}
        assert torch.equal(torch.stack([rows[position] for position in whole.positions]), whole.images)
        assert sorted(bad for part in parts for bad in part.bad) == sorted(whole.bad)


def test_other_seeds_give_other_batches(folder):
    one, two = (take(build_dataloader(config(folder), training=True, seed=seed), 1)[0] for seed in (4, 5))
    assert not torch.equal(one.images, two.images)


def test_iterating_leaves_the_global_generators_alone(folder):
    before = torch.get_rng_state()
    for workers in (0, 1):
        take(build_dataloader(config(folder, num_workers=workers), training=True), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_bad_files_are_substituted_and_reported(folder):
    loader = build_dataloader({**config(folder, 11), 'shuffle': False}, training=True)
    batch = take(loader, 1)[0]
    assert batch.indices == [0, 1, 2, 3, 6, 6, 6, 7, 8, 9, 10]
    assert [bad.path for bad in batch.bad] == ['04.png', '05.png', '05.png']
    assert all('truncated' in bad.reason for bad in batch.bad)


def test_enlarged_pictures_are_counted(folder):
    cfg = config(folder, 11, pipeline=[{'type': 'CenterCrop', 'size': 36}])
    batch = take(build_dataloader({**cfg, 'shuffle': False}, training=True), 1)[0]
    heights_and_widths = [(24 + 2 * index, 40 - index) for index in batch.indices]
    assert batch.upsampled == sum(min(size) < 36 for size in heights_and_widths) > 0


@pytest.mark.parametrize('workers', [0, 1])
def test_sizes_must_agree_in_training(folder, workers):
    cfg = {**config(folder, 2, workers, pipeline=[]), 'shuffle': False}
    with pytest.raises(ValueError, match=r'00.png has 40x24 px and 01.png 39x26 px; .*CenterCrop'):
        take(build_dataloader(cfg, training=True), 1)


@pytest.mark.parametrize(('workers', 'world_size'), [(0, 1), (2, 1), (0, 3)])
def test_evaluation_takes_any_sizes_once(folder, workers, world_size):
    paths, bad = [], []
    for rank in range(world_size):
        for batch in build_dataloader(config(folder, 4, workers, []), training=False, rank=rank,
                                      world_size=world_size):
            bad += batch.bad
            for group in batch.groups():
                assert group.images.shape[:2] == (len(group), 3)
                assert (group.bad, group.upsampled) == ([], 0)
                for row, path in enumerate(group.paths):
                    expected = np.asarray(load_rgb(folder / path)).transpose(2, 0, 1)
                    np.testing.assert_array_equal(group.images[row], expected)
                paths += group.paths
    assert sorted(paths) == [f'{number:02d}.png' for number in range(11) if number not in (4, 5)]
    assert sorted(file.path for file in bad) == ['04.png', '05.png']
    if world_size == 1:
        assert paths == sorted(paths)


def test_groups_are_runs_of_one_size():
    images = [torch.zeros(3, 4, width) for width in (5, 5, 6, 5)]
    batch = Batch(images, list('abcd'), [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [BadFile('e', 'x')], 2)
    groups = list(batch.groups())
    assert [group.images.shape for group in groups] == [(2, 3, 4, 5), (1, 3, 4, 6), (1, 3, 4, 5)]
    assert [(group.paths, group.indices, group.positions, group.seeds) for group in groups] == [
        (['a', 'b'], [0, 1], [4, 5], [8, 9]), (['c'], [2], [6], [10]), (['d'], [3], [7], [11])]
    assert list(Batch([], [], [], [], [], [BadFile('e', 'x')], 0).groups()) == []


def test_evaluation_never_substitutes(folder):
    with pytest.raises(ValueError, match='never substitutes'):
        build_dataloader(config(folder, on_bad='substitute'), training=False)
    with pytest.raises(ValueError, match='keeps the order'):
        build_dataloader({**config(folder), 'shuffle': True}, training=False)


class Explosive:
    def __call__(self, image):
        raise ZeroDivisionError('boom')


@pytest.mark.parametrize('workers', [0, 1])
def test_an_error_names_the_sample_from_a_worker_too(folder, workers):
    loader = build_dataloader(config(folder, num_workers=workers, pipeline=[{'type': Explosive}]), training=False)
    with pytest.raises(SampleError, match=r'sample 0 \(00.png\) at position 0: ZeroDivisionError: boom'):
        take(loader, 1)


@DATASETS.register_module()
class ThreadCount(ImageDataset):
    """A plug-in: grey pictures that show how many threads read them."""

    def __len__(self):
        return 2

    def load(self, index):
        return Image.new('L', (4, 4), torch.get_num_threads())


def test_a_plugin_and_one_thread_a_worker():
    cfg = {'batch_size': 2, 'num_workers': 1, 'persistent_workers': True, 'prefetch_factor': 3, 'timeout_s': 60,
           'dataset': {'type': 'ThreadCount'}}
    loader = build_dataloader(cfg, training=False)
    for _ in range(2):
        batch, = loader
        assert torch.stack(batch.images).unique().tolist() == [1]
        assert batch.paths == ['0', '1']
    assert loader.dataset.on_bad == 'report'
    assert (loader.prefetch_factor, loader.timeout) == (3, 60)
    build_dataloader({**cfg, 'num_workers': 0}, training=True)  # the workers' settings may stay


def test_a_missing_folder_names_the_right_option(tmp_path):
    for training, name in ((True, 'train_dataloader'), (False, 'val_dataloader')):
        with pytest.raises(FileNotFoundError, match=f'set {name}.dataset.data_root$'):
            build_dataloader(config(tmp_path / 'none'), training=training)


@pytest.mark.parametrize(('change', 'error', 'message'), [
    ({'batchsize': 2}, TypeError, "'batchsize'; its settings are .*batch_size"),
    ({'dataset': 'data'}, TypeError, 'ImageFolder'),
    ({'dataset': {'type': 'ImageFolder', 'root': 'x'}}, TypeError, "'?(root|data_root)'?.*its settings are"),
    ({'dataset': {'type': 'ImageFolders'}}, KeyError, "did you mean 'ImageFolder'"),
    ({'dataset': {'data_root': 'x'}}, TypeError, 'type='),
    ({'batch_size': 0}, ValueError, 'at least 1'),
    ({'num_workers': -1}, ValueError, 'at least 0')])
def test_wrong_settings_say_what_is_right(folder, change, error, message):
    with pytest.raises(error, match=message):
        build_dataloader({**config(folder), **change}, training=True)
    with pytest.raises(TypeError, match="'batch_size'; its settings"):
        build_dataloader({'dataset': {}}, training=True)


@pytest.mark.parametrize('cache_mib', [0.003, 10])
def test_a_cache_of_decoded_pictures_changes_nothing_but_the_reads(folder, monkeypatch, cache_mib):
    reads = []
    monkeypatch.setattr(base_module, 'load_rgb', lambda path, *rest: reads.append(path.name) or load_rgb(path, *rest))

    def batches(**dataset):
        reads.clear()
        loader = iter(build_dataloader(config(folder, **dataset), training=True, seed=1))
        return [next(loader).images for _ in range(12)], list(reads)

    plain, plain_reads = batches()
    cached, cached_reads = batches(cache_mib=cache_mib)
    assert all(torch.equal(a, b) for a, b in zip(plain, cached, strict=True))
    good = [name for name in cached_reads if name not in ('04.png', '05.png')]
    if cache_mib == 10:
        assert len(good) == len(set(good))
    else:  # room for the first one or two
        assert len(set(good)) < len(good) < len([name for name in plain_reads if name not in ('04.png', '05.png')])
