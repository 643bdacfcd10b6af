import math

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets import (
    BadImage,
    CenterCrop,
    CropToSize,
    RandomCrop,
    RandomFlip,
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


def ramp(width=256, height=200):
    """Red is x, green is y: a crop shows which region it came from."""
    x, y = np.meshgrid(np.arange(width, dtype=np.uint8), np.arange(height, dtype=np.uint8))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1))


def region(crop):
    """Left, top, width and height in source pixels, from the pixels' centres."""
    red, green = (np.asarray(crop)[..., channel].astype(float) for channel in (0, 1))
    step = (red[0, -1] - red[0, 0]) / (crop.width - 1)
    return red[0, 0] - step / 2, green[0, 0] - step / 2, step * crop.width, step * crop.height


def test_random_crop_of_a_random_scale_is_log_uniform():
    with seeded(0):
        crops = [RandomCrop(16, scale=(0.25, 1))(ramp()) for _ in range(400)]
    assert {crop.size for crop in crops} == {(16, 16)}
    edges = np.array([region(crop)[2] for crop in crops])
    assert edges.min() > 15
    assert edges.max() < 65.5
    assert abs(np.median(edges) - 32) < 4
    lefts = np.array([region(crop)[0] for crop in crops])
    assert lefts.min() < 10
    assert lefts.max() > 190


def test_random_crop_of_a_random_scale_is_the_resized_region():
    image = picture(64, 64)
    with seeded(1):
        crop = RandomCrop(32, scale=(0.5, 0.5))(image)
    assert np.array_equal(np.asarray(crop), np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)))


def test_random_scale_keeps_the_crop_possible():
    with seeded(0):
        for _ in range(50):
            left, top, width, height = region(RandomCrop(64, scale=(0.1, 0.2))(ramp(150, 100)))
            assert abs(width - 100) < 3
            assert -2 < top < 2


@pytest.mark.parametrize('transform', [
    lambda **too_small: ResizeShortSide(32, **too_small), lambda **too_small: CenterCrop(32, **too_small),
    lambda **too_small: RandomCrop(32, **too_small), lambda **too_small: RandomCrop(32, (0.5, 1), **too_small)])
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
    assert not was_upsampled(RandomCrop(32, scale=(2, 2))(picture(40, 40)))


def test_a_thin_line_is_no_bomb():
    with pytest.raises(BadImage, match='60000x1 px would become'):
        ResizeShortSide(1024)(picture(60_000, 1))


@pytest.mark.parametrize('size', [0, -1, 1.5, True, '256', None])
def test_sizes_are_validated(size):
    for build in (ResizeShortSide, CenterCrop, RandomCrop):
        with pytest.raises(ValueError, match='whole number of pixels from 1, such as 256'):
            build(size)


def test_other_settings_are_validated():
    with pytest.raises(ValueError, match='upsample.*drop.*error'):
        CenterCrop(8, too_small='skip')
    with pytest.raises(ValueError, match='0 to 1'):
        RandomFlip(2)
    for low, high in ((0, 1), (2, 1), (1, math.inf)):
        with pytest.raises(ValueError, match='0 < low <= high'):
            RandomCrop(8, (low, high))


def test_randomness_comes_from_torchs_generator_alone():
    image = picture(64, 48)
    for transform in (RandomCrop(32), RandomFlip(), RandomCrop(32, (0.7, 1.4))):
        draws = []
        for _ in range(2):
            torch.manual_seed(3)
            draws.append([np.asarray(transform(image)).tobytes() for _ in range(4)])
        assert draws[0] == draws[1]


def test_registered():
    for name in ('ResizeShortSide', 'CenterCrop', 'RandomCrop', 'RandomFlip'):
        assert TRANSFORMS.get(name).__name__ == name


SIZES = [(32, 32), (48, 24), (24, 48)]


@pytest.mark.parametrize(('size', 'target', 'box'), [
    ((64, 64), (32, 32), (0, 0, 64, 64)), ((100, 60), (48, 24), (0, 5, 100, 55)),
    ((60, 100), (24, 48), (5, 0, 55, 100)), ((70, 64), (32, 32), (3, 0, 67, 64)),
    ((32, 32), (32, 32), (0, 0, 32, 32)), ((37, 32), (32, 32), (2, 0, 34, 32)),
    ((40, 24), None, None)])
def test_the_size_that_cuts_least_off_is_covered(size, target, box):
    image = picture(*size)
    if target is None:
        with pytest.raises(BadImage, match='too small: 40x24 px, smaller than each of 3 sizes'):
            CropToSize(SIZES, too_small='drop')(image)
        enlarged = CropToSize(SIZES)(image)
        assert (enlarged.size, was_upsampled(enlarged)) == ((48, 24), True)
        return
    cropped = CropToSize(SIZES, too_small='error')(image)
    assert (cropped.size, was_upsampled(cropped)) == (target, False)
    np.testing.assert_array_equal(cropped, image.resize(target, Image.Resampling.BICUBIC, box))


def test_a_random_place_is_whole_pixels_where_nothing_is_resized():
    lefts = set()
    for seed in range(60):
        with seeded(seed):
            cropped, masks = CropToSize(SIZES, 'random').with_masks(picture(36, 32), {'mask': Image.new('L', (36, 32))})
        left, top = corner(cropped)
        assert top == 0
        np.testing.assert_array_equal(cropped, picture(36, 32).crop((left, 0, left + 32, 32)))
        assert masks['mask'].size == (32, 32)
        lefts.add(left)
    assert lefts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize('settings', [
    dict(sizes=[]), dict(sizes=[32]), dict(sizes=[(32, 0)]), dict(sizes=SIZES, place='top'),
    dict(sizes=SIZES, too_small='no')])
def test_settings_of_crop_to_size_are_validated(settings):
    with pytest.raises(ValueError, match='CropToSize: .*use'):
        CropToSize(**settings)
