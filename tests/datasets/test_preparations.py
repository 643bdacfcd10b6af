"""Squares as other projects make them, against torchvision's transforms and ADM's crop."""

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import Sample, fixed_pipeline
from wfvae_toolkit.datasets.preparations import (
    ADMCrop,
    PillowBilinear,
    Pipeline,
    PreparingCollate,
    TensorBilinear,
    prepare,
)
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_torchvision

EDGE = 24
SIZES = [(50, 31), (37, 120), (24, 24), (24, 41), (10, 17), (97, 96)]  # one is exact, one is too small


def picture(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def torchvision_squares(name):
    transforms = import_torchvision().transforms
    to_tensor = [transforms.ToTensor()]
    crop = [transforms.Resize(EDGE), transforms.CenterCrop(EDGE)]
    normalize = [transforms.Normalize(mean=[0.5] * 3, std=[0.5] * 3)]
    steps = {'tensor': [*to_tensor, *crop, *normalize], 'pillow': [*crop, *to_tensor, *normalize],
             'adm': [adm_crop, *to_tensor, *normalize]}
    return transforms.Compose(steps[name])


def adm_crop(image):
    """guided-diffusion's crop in the words of its paper's code: box halvings, a bicubic resize, a slice of an array."""
    while min(*image.size) >= 2 * EDGE:
        image = image.resize(tuple(side // 2 for side in image.size), resample=Image.BOX)
    scale = EDGE / min(*image.size)
    array = np.array(image.resize(tuple(round(side * scale) for side in image.size), resample=Image.BICUBIC))
    top, left = (array.shape[0] - EDGE) // 2, (array.shape[1] - EDGE) // 2
    return Image.fromarray(array[top:top + EDGE, left:left + EDGE])


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('ours', 'theirs'), [(TensorBilinear, 'tensor'), (PillowBilinear, 'pillow'), (ADMCrop, 'adm')])
def test_a_square_equals_the_project_s(ours, theirs, size):
    pixels, enlarged = ours(EDGE)(picture(size))
    assert torch.equal(pixels, torchvision_squares(theirs)(picture(size)))
    assert enlarged == (min(size) < EDGE)


def test_the_three_differ():
    made = [preparation(EDGE)(picture((97, 80)))[0] for preparation in (TensorBilinear, PillowBilinear, ADMCrop)]
    assert all((made[one] - made[other]).abs().max() > 1e-3 for one, other in ((0, 1), (0, 2), (1, 2)))


def test_a_picture_of_the_size_stays_as_it_is():
    image = picture((EDGE, EDGE))
    levels = np.asarray(image).transpose(2, 0, 1)
    for preparation in (TensorBilinear, PillowBilinear, ADMCrop):
        pixels, _ = preparation(EDGE)(image)
        assert np.array_equal(((pixels + 1) * 127.5).round().numpy(), levels)


def test_the_config_s_pipeline_is_one_too():
    pipeline = fixed_pipeline(12)
    image = picture((50, 31))
    pixels, enlarged = Pipeline(pipeline)(image)
    assert (pixels.shape, pixels.dtype, enlarged) == ((3, 12, 12), torch.uint8, False)
    assert Pipeline(fixed_pipeline(64))(image)[1]
    assert Pipeline(pipeline).description == 'ResizeShortSide(size=12), CenterCrop(size=12)'


def sample(size, **fields):
    pixels = torch.from_numpy(np.asarray(picture(size)).transpose(2, 0, 1).copy())
    return Sample(**{**dict(image=pixels, path='a.png', index=3, position=3, seed=1), **fields})


def test_batches_of_all_preparations_come_from_one_reading():
    collate = PreparingCollate([ADMCrop(16), TensorBilinear(12), Pipeline([]), ADMCrop(16)])
    batches = collate([sample((20, 30)), sample((14, 14)), sample((5, 5), image=None, bad=('bad',))])
    assert list(batches) == ['ADMCrop 16', 'TensorBilinear 12', 'pipeline']
    assert [batch.upsampled for batch in batches.values()] == [1, 0, 0]
    for batch in batches.values():
        assert (batch.indices, batch.bad) == ([3, 3], ['bad'])
    adm, = batches['ADMCrop 16'].groups()
    assert (adm.images.shape, adm.images.dtype) == ((2, 3, 16, 16), torch.float32)
    assert [group.images.shape for group in batches['pipeline'].groups()] == [(1, 3, 30, 20), (1, 3, 14, 14)]


def test_what_would_grow_without_bound_is_a_bad_file():
    line = prepare(sample((1, 60_000)), ADMCrop(256))
    assert line.image is None
    assert 'a.png' in line.bad[0].path
    assert 'would become more than' in line.bad[0].reason


def test_a_refusal_names_the_picture():
    transform = dict(type='CenterCrop', size=64, too_small='error')
    with pytest.raises(SettingError, match='a.png: 20x30 px'):
        prepare(sample((20, 30)), Pipeline([transform]))
    with pytest.raises(SettingError, match='resolution=0: a number of pixels from 1'):
        ADMCrop(0)
