"""Colour profiles: named where they are not sRGB, converted on request, and harmless where they are damaged."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tests.datasets.odd_files import PROFILE, display_p3
from wfvae_toolkit.datasets import ImageFolder, build_dataloader, embedded_profile, load_rgb
from wfvae_toolkit.datasets.images import FOREIGN_PROFILE
from wfvae_toolkit.datasets.profiles import DAMAGED
from wfvae_toolkit.utils.errors import MissingLibrary, SettingError

P3 = display_p3()
COLOUR = (200, 60, 40)
# Primaries of both spaces in CIE XYZ relative to D50, one a column.
P3_TO_XYZ = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
SRGB_TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def by_hand(colour):
    """Levels of Display P3 with gamma 2.2 -> levels of sRGB."""
    linear = np.linalg.solve(SRGB_TO_XYZ, P3_TO_XYZ @ (np.array(colour) / 255)**2.2).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear**(1 / 2.4) - 0.055)


@pytest.fixture
def picture(tmp_path):
    """Writes a picture of one colour; returns its path."""
    def write(mode='RGB', icc=P3, name='a.png', colour=COLOUR):
        image = Image.new('RGB', (12, 8), colour)
        image = image.quantize(4) if mode == 'P' else image.convert(mode)
        image.save(tmp_path / name, **({'icc_profile': icc} if icc else {}))
        return tmp_path / name
    return write


def test_by_default_the_numbers_are_those_of_the_file_and_the_profile_is_named(picture):
    image = load_rgb(picture())
    assert image.getpixel((0, 0)) == COLOUR
    assert image.info[FOREIGN_PROFILE] == 'Display P3 (not converted)'


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'P'])
def test_conversion_is_that_of_the_primaries(picture, mode):
    image = load_rgb(picture(mode), to_srgb=True)
    assert (image.mode, image.size) == ('RGB', (12, 8))
    assert np.abs(np.array(image.getpixel((0, 0))) - by_hand(COLOUR)).max() < 1


def test_what_is_clear_stays_clear(tmp_path):
    Image.new('RGBA', (4, 4), (*COLOUR, 0)).save(tmp_path / 'a.png', icc_profile=P3)
    assert load_rgb(tmp_path / 'a.png', background='#010203', to_srgb=True).getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize(('icc', 'name'), [
    (None, None), (PROFILE, None), (b'no profile', DAMAGED), (P3[:300], DAMAGED)],
    ids=['none', 'sRGB', 'no_profile', 'cut'])  # a profile holds the second in which it was made
def test_srgb_and_damaged_profiles_change_nothing(picture, icc, name):
    for to_srgb in (False, True):
        image = load_rgb(picture(icc=icc), to_srgb=to_srgb)
        assert image.getpixel((0, 0)) == COLOUR
        assert image.info.get(FOREIGN_PROFILE) == (name and f'{name} (ignored)')


def test_a_profile_of_another_kind_of_picture_is_not_applied(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()
    Image.new('RGB', (4, 4), COLOUR).save(tmp_path / 'a.png', icc_profile=lab)
    Image.new('CMYK', (4, 4), (9, 9, 9, 9)).save(tmp_path / 'b.jpg', icc_profile=P3)
    for name in ('a.png', 'b.jpg'):
        image = load_rgb(tmp_path / name, to_srgb=True)
        assert image.info[FOREIGN_PROFILE] == f'{DAMAGED} (ignored)'
        assert image.tobytes() == load_rgb(tmp_path / name).tobytes()


def test_a_grey_picture_may_have_a_profile_of_colours(picture):
    grey = load_rgb(picture('L', colour=(90,) * 3), to_srgb=True).getpixel((0, 0))
    assert np.abs(np.array(grey) - by_hand((90,) * 3)).max() < 1


def test_the_profile_that_still_describes_the_pixels(picture):
    assert embedded_profile(picture()) == P3
    assert embedded_profile(picture(icc=PROFILE)) == PROFILE
    for icc in (None, b'no profile'):
        assert embedded_profile(picture(icc=icc)) is None
    assert embedded_profile(picture('CMYK', name='a.jpg')) is None


@pytest.mark.parametrize('decoder', ['exact', 'fast'])
def test_datasets_count_them_and_convert_them(tmp_path, decoder):
    for name, icc in (('a.jpg', P3), ('b.jpg', PROFILE), ('c.jpg', P3)):
        Image.new('RGB', (64, 64), COLOUR).save(tmp_path / name, icc_profile=icc, quality=100)
    dataset = dict(type='ImageFolder', data_root=str(tmp_path), decoder=decoder,
                   pipeline=[dict(type='ResizeShortSide', size=16), dict(type='RandomCrop', size=8)])
    for convert, expected in ((False, COLOUR), (True, by_hand(COLOUR))):
        loader = build_dataloader(dict(batch_size=3, shuffle=False, dataset={**dataset, 'convert_to_srgb': convert}),
                                  training=True)
        batch = next(iter(loader))
        assert batch.profiles == {f'Display P3 ({"converted to sRGB" if convert else "not converted"})': 2}
        levels = batch.images.double().mean((2, 3))
        assert np.abs(levels[0].numpy() - expected).max() < 2.5
        assert np.abs(levels[1].numpy() - COLOUR).max() < 2.5


def test_pictures_kept_in_memory_are_counted_each_time(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png', icc_profile=P3)
    dataset = ImageFolder(tmp_path, cache_mib=1)
    assert [dataset[0].profile for _ in range(2)] == ['Display P3 (not converted)'] * 2
    assert torch.equal(dataset[0].image, torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_a_setting_that_cannot_work_is_refused(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="convert_to_srgb='yes': True or False"):
        ImageFolder(tmp_path, convert_to_srgb='yes')
    monkeypatch.setattr('PIL.features.check', lambda name: name != 'littlecms2')
    with pytest.raises(MissingLibrary, match='without LittleCMS'):
        ImageFolder(tmp_path, convert_to_srgb=True)
