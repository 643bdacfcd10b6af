import math

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import (
    BadImage,
    CenterCrop,
    RandomCrop,
    RandomFlip,
    RandomScale,
    ResizeShortSide,
    was_upsampled,
)
from wfvae_toolkit.registry import TRANSFORMS
from wfvae_toolkit.utils.seeding import seeded


def picture(width, height):
    """Each pixel tells its place: red the column, green the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.dstack([columns, rows, 0 * rows]).astype(np.uint8))


def corner(image):
    return image.getpixel((0, 0))[:2]


@pytest.mark.parametrize(('before', 'after'), [
    ((80, 60), (27, 20)), ((60, 80), (20, 27)), ((41, 41), (20, 20)), ((20, 33), (20, 33)), ((10, 15), (20, 30)),
    ((1000, 21), (952, 20))])
def test_resize_short_side(before, after):
    image = picture(*before)
    resized = ResizeShortSide(20)(image)
    assert resized.size == after
    np.testing.assert_array_equal(resized, image.resize(after, Image.Resampling.BICUBIC))
    assert was_upsampled(resized) == (min(before) < 20)


def test_resizing_is_antialiased():
    lines = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)).repeat(3).reshape(64, 64, 3))
    inside = np.asarray(ResizeShortSide(16)(lines))[:, 2:-2].astype(int)
    assert np.abs(inside - 127.5).max() < 4  # every second line taken would be all 0 or all 255


@pytest.mark.parametrize(('width', 'height', 'place'), [(30, 20, (10, 5)), (31, 21, (10, 5)), (10, 10, (0, 0))])
def test_center_crop(width, height, place):
    crop = CenterCrop(10)(picture(width, height))
    assert crop.size == (10, 10)
    assert corner(crop) == place
    assert not was_upsampled(crop)


def test_random_crop_reaches_every_place_alike():
    counts = np.zeros((3, 4))
    image = picture(13, 12)
    with seeded(0):
        for _ in range(1200):
            left, top = corner(RandomCrop(10)(image))
            counts[top, left] += 1
    assert counts.min() > 60
    assert counts.max() < 140


def test_random_flip():
    image = picture(9, 5)
    assert corner(RandomFlip(0)(image)) == (0, 0)
    assert corner(RandomFlip(1)(image)) == (8, 0)
    with seeded(0):
        flips = sum(corner(RandomFlip(0.25)(image)) == (8, 0) for _ in range(1000))
    assert 200 < flips < 300


def test_random_scale_is_log_uniform_and_keeps_the_crop_possible():
    with seeded(0):
        factors = [RandomScale(0.25, 4, min_size=1)(picture(100, 100)).width / 100 for _ in range(400)]
    assert min(factors) >= 0.25
    assert max(factors) <= 4
    assert abs(np.median(factors) - 1) < 0.2
    assert abs(np.mean([math.log2(factor) > 1 for factor in factors]) - 0.25) < 0.06
    with seeded(0):
        sizes = [RandomScale(0.25, 1, min_size=64)(picture(100, 150)).size for _ in range(100)]
    assert min(min(size) for size in sizes) == 64
    assert max(size[0] for size in sizes) > 90
    assert all(abs(size[1] - 1.5 * size[0]) <= 1 for size in sizes)


@pytest.mark.parametrize('transform', [
    lambda **too_small: ResizeShortSide(32, **too_small), lambda **too_small: CenterCrop(32, **too_small),
    lambda **too_small: RandomCrop(32, **too_small), lambda **too_small: RandomScale(0.5, 1, 32, **too_small)])
def test_too_small_is_enlarged_dropped_or_an_error(transform):
    small, enough = picture(20, 40), picture(32, 64)
    image = transform()(small)
    assert min(image.size) == 32
    assert was_upsampled(image)
    assert was_upsampled(RandomFlip(1)(image))
    assert not was_upsampled(small)
    with pytest.raises(BadImage, match='too small: 20x40 px, .* needs 32'):
        transform(too_small='drop')(small)
    with pytest.raises(ValueError, match="20x40 px, .* needs 32 .*too_small='upsample'"):
        transform(too_small='error')(small)
    for too_small in ('upsample', 'drop', 'error'):
        assert not was_upsampled(transform(too_small=too_small)(enough))


def test_asked_for_enlarging_is_not_counted():
    image = RandomScale(2, 2, min_size=32)(picture(40, 40))
    assert image.size == (80, 80)
    assert not was_upsampled(image)


def test_a_thin_line_is_no_bomb():
    with pytest.raises(BadImage, match='60000x1 px would become'):
        ResizeShortSide(1024)(picture(60_000, 1))


@pytest.mark.parametrize('size', [0, -1, 1.5, True, '256', None])
def test_sizes_are_validated(size):
    for build in (ResizeShortSide, CenterCrop, RandomCrop, lambda size: RandomScale(0.5, 1, size)):
        with pytest.raises(ValueError, match='whole number of pixels from 1, such as 256'):
            build(size)


def test_other_settings_are_validated():
    with pytest.raises(ValueError, match='upsample.*drop.*error'):
        CenterCrop(8, too_small='skip')
    with pytest.raises(ValueError, match='0 to 1'):
        RandomFlip(2)
    for low, high in ((0, 1), (2, 1), (1, math.inf)):
        with pytest.raises(ValueError, match='0 < low <= high'):
            RandomScale(low, high, 8)


def test_randomness_comes_from_torchs_generator_alone():
    image = picture(64, 48)
    for transform in (RandomCrop(32), RandomFlip(), RandomScale(0.7, 1.4, 32)):
        draws = []
        for _ in range(2):
            torch.manual_seed(3)
            draws.append([np.asarray(transform(image)).tobytes() for _ in range(4)])
        assert draws[0] == draws[1]


def test_registered():
    assert isinstance(TRANSFORMS.build({'type': 'RandomScale', 'low': 0.5, 'high': 1, 'min_size': 8}), RandomScale)
    for name in ('ResizeShortSide', 'CenterCrop', 'RandomCrop', 'RandomFlip'):
        assert TRANSFORMS.get(name).__name__ == name
