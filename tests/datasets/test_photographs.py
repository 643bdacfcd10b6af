import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from skimage import data

from wfvae_toolkit.datasets.photographs import (
    SAME,
    PhotographRule,
    SeenPictures,
    count_colours,
    difference_hash,
    flat_share,
    outline_share,
    shrink,
)
from wfvae_toolkit.datasets.synthetic import SyntheticImages


@pytest.fixture(scope='module')
def photo():
    return Image.fromarray(data.astronaut())


def objection(image):
    return PhotographRule().objection(image)


def test_photographs_pass(photo):
    for image in (photo, Image.fromarray(data.coffee()), Image.fromarray(data.chelsea()), photo.crop((0, 0, 300, 500))):
        assert objection(image) == ''


@pytest.mark.parametrize('kind', ['edges', 'text'])
def test_drawings_and_pages_do_not(kind):
    drawings = SyntheticImages(length=10, size=400, kinds={kind: 1})
    assert {objection(drawings.load(index)) for index in range(10)} <= {'flat', 'colours'}


def test_each_objection(photo):
    assert objection(photo.crop((0, 0, 255, 400))) == 'small'
    assert objection(photo.resize((1000, 300))) == 'aspect'
    assert objection(photo.convert('L')) == 'colours'  # 32 greys
    cut_out = photo.convert('RGBA')
    cut_out.putalpha(Image.linear_gradient('L').resize(photo.size))
    assert objection(cut_out) == 'transparent'
    opaque = photo.convert('RGBA')
    assert objection(opaque) == ''
    outlined = Image.fromarray((np.asarray(photo) // 16) + np.uint8(100))
    ImageDraw.Draw(outlined).line([(x, (x * 7) % 512) for x in range(0, 512, 6)], fill='black', width=3)
    assert objection(outlined) in ('outline', 'colours', 'flat')


def test_measures():
    grey = np.zeros((16, 24), int)
    assert flat_share(grey) == 1
    grey[3, 3] = 1
    assert flat_share(grey) == 1
    grey[3, 3] = 2
    assert flat_share(grey) == pytest.approx(5 / 6)
    assert outline_share(np.tile(np.arange(200), (3, 1))) == pytest.approx(0.05, abs=0.005)
    assert outline_share(np.repeat([[0] * 50 + [9] * 50], 3, axis=0)) == 1
    assert count_colours(Image.new('RGB', (80, 80), (7, 7, 7))) == 1


def test_shrinking_keeps_small_pictures(photo):
    assert shrink(photo.crop((0, 0, 400, 300)), 150).size == (200, 150)
    assert shrink(photo, 512) is photo


def test_the_same_picture_is_found_after_resizing_compression_and_mirroring(photo):
    seen = SeenPictures()
    seen.add('coffee', Image.fromarray(data.coffee()))
    assert seen.find(photo) is None
    seen.add('astronaut', photo)
    for other in (photo.resize((300, 320)), photo.quantize(64).convert('RGB'),
                  ImageEnhance.Brightness(photo).enhance(0.8), photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        assert seen.find(other) == 'astronaut'
    assert seen.find(Image.fromarray(data.chelsea())) is None


def test_other_pictures_differ_in_many_bits(photo):
    difference = (difference_hash(photo) != difference_hash(Image.fromarray(data.coffee()))).mean()
    assert difference > 3 * SAME
