import itertools

import numpy as np
import pytest
import torch

from wfvae_toolkit.datasets import build_dataloader
from wfvae_toolkit.datasets.synthetic import PAINTERS, SyntheticImages
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import SettingError

SUMS = {'texture': 448338, 'gradient': 707756, 'edges': 447104, 'text': 1250905}
CROP = [{'type': 'RandomCrop', 'size': 24}, {'type': 'RandomFlip'}]


def images(count=8, **settings):
    dataset = SyntheticImages(**{'length': count, 'size': 48, **settings})
    return torch.stack([sample.image for sample in dataset])


def batches(dataset, training, workers=0):
    loader = build_dataloader({'batch_size': 4, 'num_workers': workers, 'dataset': dataset}, training=training, seed=1)
    return list(itertools.islice(loader, 3))


def test_a_picture_depends_on_seed_and_index_alone():
    assert torch.equal(images(8), images(20)[:8])
    assert torch.equal(images(8)[3], SyntheticImages(size=48)[3].image)
    pictures = images(12)
    assert len(torch.unique(pictures.flatten(1), dim=0)) == 12
    assert not any(torch.equal(one, two) for one, two in zip(pictures, images(12, seed=1), strict=True))
    assert pictures.shape == (12, 3, 48, 48)
    assert pictures.dtype == torch.uint8


def test_pictures_are_the_same_in_every_release():
    """Sums of the first picture of each kind; a new Pillow, FreeType or NumPy may draw a little differently."""
    sums = {kind: int(images(1, kinds={kind: 1}).to(torch.int64).sum()) for kind in PAINTERS}
    assert sums == pytest.approx(SUMS, rel=0.01)


@pytest.mark.parametrize('kind', PAINTERS)
@pytest.mark.parametrize('size', [8, 33, 256])
def test_every_kind_paints_every_size(kind, size):
    pictures = images(3, size=size, kinds={kind: 1})
    assert pictures.shape == (3, 3, size, size)
    assert all(picture.unique().numel() > 1 for picture in pictures)


def test_kinds_differ_in_what_makes_a_picture_hard():
    """Gradients are smooth, edges and text are flat between jumps, textures are neither."""
    steps = {kind: np.abs(np.diff(images(12, size=128, kinds={kind: 1}).numpy().astype(int), axis=-1))
             for kind in PAINTERS}
    assert steps['gradient'].max() < 20
    for kind in ('edges', 'text'):
        assert np.median(steps[kind]) == 0
        assert steps[kind].max() > 100
    assert np.median(steps['texture']) > 0


def test_shares_are_those_of_the_weights():
    dataset = SyntheticImages(length=2000, kinds=dict(texture=3, text=1, edges=None))
    kinds = [dataset.path(index).split('_')[1] for index in range(2000)]
    assert set(kinds) == {'texture.png', 'text.png'}
    assert 0.22 < kinds.count('text.png') / 2000 < 0.28


def test_the_order_of_kinds_in_a_config_says_nothing():
    assert torch.equal(images(kinds=dict(text=1, edges=2)), images(kinds=dict(edges=2, text=1)))


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
@pytest.mark.parametrize('training', [True, False])
def test_the_loader_gives_the_same_on_any_number_of_workers(training):
    dataset = dict(type='SyntheticImages', length=12, size=32, pipeline=CROP if training else [])
    for one, two in zip(batches(dataset, training), batches(dataset, training, workers=2), strict=True):
        assert one.paths == two.paths
        assert all(torch.equal(a, b) for a, b in zip(one.images, two.images, strict=True))


def test_in_a_mixture():
    text = dict(type='SyntheticImages', length=5, size=32, kinds=dict(text=1), pipeline=CROP)
    shapes = dict(type='SyntheticImages', length=7, size=48, seed=4, kinds=dict(edges=1), pipeline=CROP)
    mixture = dict(type='MixedDataset', sources=dict(text=dict(weight=1, dataset=text),
                                                     shapes=dict(weight=3, dataset=shapes)))
    assert len(DATASETS.build(mixture)) == 12
    assert DATASETS.build(mixture).crop_size() == 24
    paths = [path for batch in batches(mixture, training=True) for path in batch.paths]
    assert {path.partition('/')[0] for path in paths} == {'text', 'shapes'}


def test_crop_size():
    assert SyntheticImages(size=40).crop_size() == 40
    assert SyntheticImages(size=40, pipeline=[{'type': 'RandomFlip'}]).crop_size() == 40
    assert SyntheticImages(size=40, pipeline=CROP).crop_size() == 24
    assert SyntheticImages(size=40, pipeline=[{'type': 'ResizeShortSide', 'size': 16}]).crop_size() is None


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(length=0), 'length=0: use a whole number, at least 1'),
    (dict(size=7.5), r'size=7\.5: use a whole number, at least 8'),
    (dict(seed=-1), 'seed=-1: use a whole number, at least 0'),
    (dict(kinds='text'), "kinds='text': use a dict"),
    (dict(kinds={}), 'use positive weights of texture, gradient, edges, text'),
    (dict(kinds=dict(text=None)), 'use positive weights'),
    (dict(kinds=dict(faces=1)), "kinds={'faces': 1}"),
    (dict(kinds=dict(text=0)), "kinds={'text': 0}"),
    (dict(kinds=dict(text=True)), "kinds={'text': True}"),
])
def test_wrong_settings_say_what_is_right(settings, message):
    with pytest.raises(SettingError, match=message):
        SyntheticImages(**settings)
