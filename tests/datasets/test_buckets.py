"""Every update has one size, on every rank; every picture is used equally often; what is cut off is said."""

import collections
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import take
from wfvae_toolkit.datasets import AspectBuckets, SampleKey, build_dataloader
from wfvae_toolkit.datasets.buckets import choose_sizes, possible_sizes
from wfvae_toolkit.datasets.transforms import kept_share
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import SettingError

SIZES = [(60, 40), (40, 60), (50, 50), (90, 45), (64, 64), (48, 41), (41, 48), (100, 34), (20, 20)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Five pictures of each of SIZES; one is truncated, and one is no picture."""
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES * 5):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{number:02d}.{"jpg" if number == 2 else "png"}')
    (folder / '02.jpg').write_bytes((folder / '02.jpg').read_bytes()[:1500])
    (folder / '99.png').write_bytes(b'text')
    return folder


def config(folder, **settings):
    return {'type': 'AspectBuckets', 'dataset': {'type': 'ImageFolder', 'data_root': str(folder)}, 'size': 32,
            'multiple_of': 8, **settings}


def loader(folder, batch_size=4, accumulation=2, rank=0, world_size=1, workers=0, **settings):
    return build_dataloader({'batch_size': batch_size, 'num_workers': workers, 'dataset': config(folder, **settings)},
                            training=True, seed=4, rank=rank, world_size=world_size, accumulation=accumulation)


def rows_of(batches):
    """Position -> (picture, path) of batches."""
    return {position: (image, path) for batch in batches
            for position, image, path in zip(batch.positions, batch.images, batch.paths, strict=True)}


def test_an_update_has_one_size_on_all_ranks_and_in_all_its_micro_batches(folder):
    one = take(loader(folder), 24)
    ranks = [take(loader(folder, 2, rank=rank, world_size=2), 24) for rank in range(2)]
    sizes = [{tuple(batch.images.shape[2:]) for part in (one, *ranks) for batch in part[number:number + 2]}
             for number in range(0, 24, 2)]
    assert all(len(of_update) == 1 for of_update in sizes)
    assert len(set.union(*sizes)) > 2
    whole, parts = rows_of(one), rows_of([batch for part in ranks for batch in part])
    assert whole.keys() == parts.keys()
    for position, (image, path) in whole.items():
        assert torch.equal(image, parts[position][0])
        assert path == parts[position][1]


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_resume_is_exact_for_any_workers(folder):
    whole = take(loader(folder), 12)
    for workers in (0, 2):
        resumed = loader(folder, workers=workers)
        resumed.sampler.set_position(3 * 8)
        for one, two in zip(whole[6:], take(resumed, 6), strict=True):
            assert torch.equal(one.images, two.images)
            assert (one.paths, one.seeds, one.bad) == (two.paths, two.seeds, two.bad)


def test_every_picture_of_a_size_comes_once_before_one_comes_twice(folder):
    dataset = DATASETS.build(config(folder))
    order = dataset.batch_order(len(dataset), 0, True, 7)  # which divides the pictures of no size
    drawn = collections.defaultdict(list)
    for position in range(7 * 2048):
        index = order(position)
        drawn[int(np.searchsorted(dataset._starts, index, 'right')) - 1].append(index)
    for number, indices in drawn.items():
        count = int(dataset._starts[number + 1] - dataset._starts[number])
        for start in range(0, len(indices) - count + 1, count):
            assert len(set(indices[start:start + count])) == count
        assert len(indices) == pytest.approx(7 * 2048 * count / len(dataset), abs=7 * len(dataset.sizes))


def test_the_statistics_are_those_of_the_pictures(folder):
    dataset = DATASETS.build(config(folder, buckets=[(32, 32), (40, 24), (24, 40)]))
    first, *rows = dataset.describe_sizes()
    assert first == '40 pictures in 3 sizes, 5 smaller ones are passed over; on average 13.6% of a picture is cut off'
    assert rows[0] == '32x32 px: 20 pictures (50.0%), 7.3% is cut off, at most 14.6%'
    assert dataset.remarks() == [
        '1 of 46 pictures have a header that cannot be read; they are passed over',
        "5 of 46 pictures are smaller than every size (too_small='upsample' would use them); they are passed over"]
    for index in range(len(dataset)):  # what is really left of each
        width, height = Image.open(folder / dataset.path(index)).size
        size = dataset.sizes[int(np.searchsorted(dataset._starts, index, 'right')) - 1]
        scale = max(size[0] / width, size[1] / height)
        assert scale <= 1
        assert dataset._cut[index] == pytest.approx(1 - size[0] * size[1] / (scale**2 * width * height))


def test_small_pictures_are_enlarged_where_that_is_allowed(folder):
    dataset = DATASETS.build(config(folder, too_small='upsample'))
    assert len(dataset) == 45
    index = next(index for index in range(45) if dataset.path(index) == '08.png')
    sample = dataset[SampleKey(index, 0, 0)]
    assert sample.upsampled
    assert sample.image.shape[1:] == (32, 32)


def test_a_bad_file_is_replaced_by_one_of_its_size(folder):
    dataset = DATASETS.build(config(folder))
    index = next(index for index in range(len(dataset)) if dataset.path(index) == '02.jpg')
    sample = dataset[SampleKey(index, 0, 0)]
    assert [bad.path for bad in sample.bad] == ['02.jpg']
    assert Image.open(folder / sample.path).size in ((50, 50), (64, 64), (48, 41), (41, 48))
    assert sample.image.shape[1:] == dataset.crop_sizes()[int(np.searchsorted(dataset._starts, index, 'right')) - 1]


def test_a_picture_that_changed_since_its_size_was_read_is_bad(folder, tmp_path):
    for number in range(3):
        Image.new('RGB', (60, 40)).save(tmp_path / f'{number}.png')
        Image.new('RGB', (40, 60)).save(tmp_path / f'tall {number}.png')
    dataset = DATASETS.build(config(tmp_path))
    Image.new('RGB', (40, 60)).save(tmp_path / '1.png')
    index = next(index for index in range(len(dataset)) if dataset.path(index) == '1.png')
    sample = dataset[SampleKey(index, 0, 0)]
    assert sample.bad[0].path == '1.png'
    assert 'its file has changed' in sample.bad[0].reason
    assert sample.image.shape == dataset[SampleKey(index - 1, 0, 0)].image.shape


def test_size_can_grow(folder):
    dataset = DATASETS.build(config(folder))
    before = dataset.sizes
    dataset.set_size(24)
    assert dataset.sizes != before
    assert all(abs(width * height / 24**2 - 1) < 0.2 for width, height in dataset.sizes)
    sample = dataset[SampleKey(0, 0, 0)]
    assert tuple(sample.image.shape[1:]) == dataset.crop_sizes()[0]
    with pytest.raises(SettingError, match='buckets is a list of sizes'):
        DATASETS.build(config(folder, buckets=[(32, 32)])).set_size(24)


def test_sources_of_a_mixture_keep_their_weights(folder, tmp_path):
    for number in range(6):
        Image.new('RGB', (80, 80), (9, 9, 9)).save(tmp_path / f'{number}.png')
    sources = {name: {'weight': weight, 'dataset': {'type': 'ImageFolder', 'data_root': str(root)}}
               for name, weight, root in (('many', 1, folder), ('few', 3, tmp_path))}
    cfg = config(folder) | {'dataset': {'type': 'MixedDataset', 'sources': sources}}
    dataset = DATASETS.build(cfg)
    order = dataset.batch_order(len(dataset), 0, True, 4)
    paths = [dataset.path(order(position)) for position in range(4 * 1024)]
    assert sum(path.startswith('few/') for path in paths) / len(paths) == pytest.approx(0.75, abs=0.01)
    sample = dataset[SampleKey(order(0), 0, 0)]
    assert sample.path == paths[0]
    with pytest.raises(SettingError, match='source a: AspectBuckets gives each batch one size, which a mixture'):
        DATASETS.build({'type': 'MixedDataset', 'sources': {'a': {'weight': 1, 'dataset': config(folder)}}})


@pytest.mark.parametrize(('settings', 'words'), [
    ({'size': 30}, 'size=30: use a multiple of multiple_of=8'), ({'size': 0}, 'size=0: use a whole number'),
    ({'buckets': 0}, 'buckets=0: use the largest number'),
    ({'buckets': [(30, 32)]}, r'\(30, 32\): use \(width, height\)'),
    ({'buckets': []}, 'name at least one size'), ({'buckets': [(8, 8), (8, 8)]}, 'each once'),
    ({'max_ratio': 0.5}, 'max_ratio=0.5'), ({'too_small': 'error'}, "too_small='error': use one of"),
    ({'crop': 'top'}, "place='top'"), ({'size': 512}, 'no picture is left for size='),
    ({'pipeline': [{'type': 'CenterCrop', 'size': 16}]}, 'CenterCrop changes the size'),
    ({'dataset': {'type': 'ImageFolder', 'data_root': '.', 'pipeline': []}}, 'give it the rest as its pipeline'),
])
def test_what_cannot_work_is_refused(folder, settings, words):
    with pytest.raises(SettingError, match=words):
        AspectBuckets(**{key: value for key, value in (config(folder) | settings).items() if key != 'type'})


def test_it_is_for_training_on_all_pictures(folder):
    with pytest.raises(SettingError, match='evaluation takes pictures of any size and ratio, so give its dataset'):
        build_dataloader({'batch_size': 1, 'dataset': config(folder)}, training=False)
    with pytest.raises(SettingError, match='leave max_images out'):
        build_dataloader({'batch_size': 1, 'max_images': 3, 'dataset': config(folder)}, training=True)


def test_possible_sizes_have_about_the_pixels_and_ratios_up_to_the_limit():
    sizes = possible_sizes(1024, 64, 2)
    assert (1024, 1024) in sizes
    assert all((height, width) in sizes for width, height in sizes)
    for width, height in sizes:
        assert width % 64 == height % 64 == 0
        assert abs(width * height / 2**20 - 1) < 0.06
        assert max(width, height) / min(width, height) < 2.05
    assert possible_sizes(64, 64, 1) == [(64, 64)]


def test_chosen_sizes_cut_off_least():
    """As with the best of all choices, which are few here."""
    rng = np.random.default_rng(0)
    pictures = np.stack([rng.integers(600, 2000, 300), np.full(300, 1000)], 1)
    possible = possible_sizes(1024, 128, 2.5)

    def kept(sizes):
        return kept_share(pictures, sizes).max(1).mean()
    for count in (1, 2, 3, 4):
        best = max(map(kept, itertools.combinations(possible, count)))
        assert kept(choose_sizes(possible, pictures, count)) == pytest.approx(best, abs=0.003)
    assert choose_sizes(possible, pictures, 99) == possible
