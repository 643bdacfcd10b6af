import pickle

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from tests.helpers import take
from wfvae_toolkit.datasets import BadFile, ImageFolder, build_dataloader
from wfvae_toolkit.datasets.base import crop_sizes
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import SettingError

PIPELINE = [{'type': 'RandomCrop', 'size': 6}, {'type': 'RandomFlip'}]


@pytest.fixture
def roots(tmp_path):
    """Folders 'many' (8 pictures), 'few' (2) and 'faulty' (3, the second empty); red is the source, green the index."""
    for red, (name, count) in enumerate((('many', 8), ('few', 2), ('faulty', 3))):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new('RGB', (8, 8), (red, number, 0)).save(tmp_path / name / f'{number}.png')
    (tmp_path / 'faulty/1.png').write_bytes(b'')
    return tmp_path


def config(roots, weights, pipeline=PIPELINE, **options):
    return {'type': 'MixedDataset', **options, 'sources': {
        name: {'weight': weight, 'dataset': {'type': 'ImageFolder', 'data_root': str(roots / name),
                                             'pipeline': pipeline}} for name, weight in weights.items()}}


def loader(roots, weights, batch_size=4, training=True, workers=0, **options):
    cfg = {'batch_size': batch_size, 'num_workers': workers, 'dataset': config(roots, weights)}
    return build_dataloader(cfg, training=training, seed=2, **options)


def test_pictures_come_from_the_sources_that_the_paths_name(roots):
    paths = []
    for batch in take(loader(roots, {'many': 1, 'few': 3}), 50):
        for image, path in zip(batch.images, batch.paths, strict=True):
            name, _, number = path.partition('/')
            assert image[:2, 0, 0].tolist() == [('many', 'few').index(name), int(number.removesuffix('.png'))]
        paths += batch.paths
    assert 130 < sum(path.startswith('few/') for path in paths) < 170


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_workers_ranks_and_resuming_change_nothing(roots):
    weights = {'many': 1, 'few': 0.7, 'faulty': 0.2}
    whole = take(loader(roots, weights), 12)
    for workers in (0, 2):
        resumed = loader(roots, weights, workers=workers)
        resumed.sampler.set_position(4 * 7)
        for one, two in zip(whole[7:], take(resumed, 5), strict=True):
            assert torch.equal(one.images, two.images)
            assert vars(one) | {'images': 0} == vars(two) | {'images': 0}
    ranks = [take(loader(roots, weights, 2, rank=rank, world_size=2), 12) for rank in range(2)]
    for one, *parts in zip(whole, *ranks, strict=True):
        rows = {position: part.images[row] for part in parts for row, position in enumerate(part.positions)}
        assert torch.equal(torch.stack([rows[position] for position in one.positions]), one.images)


def test_evaluation_is_the_concatenation(roots):
    batches = list(loader(roots, {'few': 5, 'faulty': 1}, batch_size=2, training=False))
    assert [path for batch in batches for path in batch.paths] == ['few/0.png', 'few/1.png', 'faulty/0.png',
                                                                   'faulty/2.png']
    assert [index for batch in batches for index in batch.indices] == [0, 1, 2, 4]
    assert [bad for batch in batches for bad in batch.bad] == [BadFile('faulty/1.png', 'zero bytes')]


def test_a_substitute_is_of_the_same_source(roots):
    sample = DATASETS.build(config(roots, {'few': 1, 'faulty': 1}))[3]
    assert (sample.path, sample.index, sample.position) == ('faulty/2.png', 4, 3)
    assert sample.bad == (BadFile('faulty/1.png', 'zero bytes'),)


def test_a_sample_is_that_of_its_source(roots):
    mixed = DATASETS.build(config(roots, {'few': 1, 'many': 1}))
    assert len(mixed) == 10
    assert [mixed.path(index) for index in (0, 1, 2, 9)] == ['few/0.png', 'few/1.png', 'many/0.png', 'many/7.png']
    assert torch.equal(pickle.loads(pickle.dumps(mixed))[4].image, mixed[4].image)
    assert len(list(mixed)) == 10
    for index in (-1, 10):
        with pytest.raises(IndexError, match='there are 10'):
            mixed[index]


def test_a_pipeline_for_all(roots):
    mixed = DATASETS.build(config(roots, {'few': 1, 'many': 1}) | {'pipeline': [{'type': 'CenterCrop', 'size': 3}]})
    assert {sample.image.shape for sample in mixed} == {(3, 3, 3)}


def test_a_child_config_removes_a_source_with_none(roots, tmp_path):
    (tmp_path / 'base.py').write_text(f'dataset = {config(roots, {"few": 1, "many": 1})!r}')
    (tmp_path / 'child.py').write_text("_base_ = 'base.py'\ndataset = dict(sources=dict(few=None))")
    mixed = DATASETS.build(Config.fromfile(tmp_path / 'child.py', lazy_import=False).dataset)
    assert [sample.path for sample in mixed] == [f'many/{number}.png' for number in range(8)]


@pytest.mark.parametrize(('sources', 'message'), [
    ({}, 'has no source'),
    ({'few': None}, 'has no source'),
    ({'few': {'weight': 1}}, 'source few: .*use dict'),
    ({'few': {'weight': 1, 'dataset': {}, 'more': 2}}, 'source few: .*use dict'),
    ({'few': 'few'}, 'source few: .*use dict'),
    ({'few': {'weight': 0, 'dataset': {}}}, r'weight=0: use a positive number; .*sources\.few=None removes'),
    ({'few': {'weight': float('nan'), 'dataset': {}}}, 'weight=nan'),
    ({'few': {'weight': True, 'dataset': {}}}, 'weight=True'),
    ({'few': {'weight': '2', 'dataset': {}}}, "weight='2'")])
def test_wrong_sources_say_what_is_right(sources, message):
    with pytest.raises(SettingError, match=message):
        DATASETS.build({'type': 'MixedDataset', 'sources': sources})


def test_messages_name_the_source(roots):
    with pytest.raises(FileNotFoundError, match='set val_dataloader.dataset.sources.none.dataset.data_root$'):
        loader(roots, {'few': 1, 'none': 1}, training=False)
    cfg = config(roots, {'few': 1}, [{'type': 'CenterCrop', 'size': 99, 'too_small': 'error'}])
    with pytest.raises(SettingError, match='source few: 1.png: 8x8 px, CenterCrop needs 99'):
        DATASETS.build(cfg)[1]
    with pytest.raises(SettingError, match='max_images=3: a mixture has no first samples'):
        build_dataloader({'batch_size': 1, 'max_images': 3, 'dataset': config(roots, {'few': 1, 'many': 1})},
                         training=True)


def test_alone_it_sees_what_the_folder_sees(roots):
    mixed = take(loader(roots, {'many': 1}), 2)
    assert sorted(path for batch in mixed for path in batch.paths) == [
        f'many/{path}' for path in ImageFolder(roots / 'many').paths]


def test_sizes_of_all_sources_are_told_or_none(roots):
    cfg = config(roots, {'many': 1, 'few': 1})
    assert crop_sizes(DATASETS.build(cfg)) == [(6, 6)]
    cfg['sources']['few']['dataset']['pipeline'] = [{'type': 'CropToSize', 'sizes': [(8, 4)]}, {'type': 'RandomFlip'}]
    assert crop_sizes(DATASETS.build(cfg)) == [(4, 8), (6, 6)]
    cfg['sources']['few']['dataset']['pipeline'] = []
    assert crop_sizes(DATASETS.build(cfg)) == []
