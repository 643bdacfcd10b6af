import numpy as np
import pytest
from PIL import Image

from tests.report.made import make_evaluation, make_maps, make_strip
from wfvae_toolkit.report.pictures import (
    PictureWriter,
    difference_map,
    error_map,
    pairs_to_map,
    scale_colours,
    split_strip,
)
from wfvae_toolkit.report.read import read_evaluation
from wfvae_toolkit.utils.errors import SettingError


def picture(value, side=8):
    return np.full((side, side, 3), value, np.uint8)


def test_a_strip_is_split_without_loss(tmp_path):
    parts = make_strip(tmp_path / 'a.png', 3, side=20, height=12)
    assert all(np.array_equal(*pair) for pair in zip(split_strip(tmp_path / 'a.png'), parts, strict=True))


@pytest.mark.parametrize('width', [24, 9])
def test_another_picture_is_refused(tmp_path, width):
    Image.new('RGB', (width, 8)).save(tmp_path / 'a.png')
    with pytest.raises(SettingError, match='a.png: .* px wide'):
        split_strip(tmp_path / 'a.png')


def test_error_grows_from_black_to_the_end_of_the_scale():
    colours = [error_map(picture(100), picture(100 + error))[0, 0].astype(int).sum() for error in (0, 10, 48, 90)]
    assert colours[0] < colours[1] < colours[2] == colours[3]


def test_difference_is_blue_where_the_second_is_nearer():
    red, _, blue = difference_map(picture(100), picture(110), picture(101))[0, 0].astype(int)
    assert blue > red
    red, _, blue = difference_map(picture(100), picture(101), picture(110))[0, 0].astype(int)
    assert red > blue
    assert difference_map(picture(100), picture(105), picture(95))[0, 0].min() > 240


def test_full_pictures_are_lossless_and_thumbnails_small(tmp_path):
    writer = PictureWriter(tmp_path)
    original = np.random.default_rng(0).integers(0, 255, (300, 500, 3), dtype=np.uint8)
    layers = writer._layers(original, original)
    assert np.array_equal(np.asarray(Image.open(tmp_path / layers.original).convert('RGB')), original)
    with Image.open(tmp_path / layers.thumbnail) as thumbnail:
        assert thumbnail.size == (256, 154)
    assert (layers.width, layers.height) == (500, 300)


def test_equal_pictures_are_one_file_and_unused_ones_go(tmp_path):
    writer = PictureWriter(tmp_path)
    assert writer._save('o', picture(1)) == writer._save('o', picture(1)) != writer._save('o', picture(2))
    again = PictureWriter(tmp_path)
    kept = again._save('o', picture(2))
    again.remove_unused()
    assert [f'pictures/{path.name}' for path in (tmp_path / 'pictures').iterdir()] == [kept]


def test_pairs():
    assert pairs_to_map([4]) == []
    assert pairs_to_map([0, 1, 3]) == [(0, 1), (0, 3), (1, 3)]
    assert pairs_to_map([1, 2, 3, 4]) == [(1, 2), (1, 3), (1, 4)]


def test_scales_name_their_ends():
    scales = scale_colours()
    assert (scales['error']['low'], scales['difference']['low']) == (0, -scales['difference']['high'])
    assert scales['error']['colours'][0] == 'rgb(0, 0, 4)' or scales['error']['colours'][0] == 'rgb(0, 0, 3)'


def test_channel_maps_are_copied_without_loss(tmp_path):
    make_evaluation(tmp_path / 'scores', ['a.png'])
    make_maps(tmp_path / 'scores', ['a.png'], channels=3, side=5, of=70)
    maps = read_evaluation(tmp_path / 'scores').maps['a.png']
    found = PictureWriter(tmp_path / 'out').channels(maps)
    assert {key: found[key] for key in ('width', 'height', 'shown', 'of')} == {
        'width': 5, 'height': 5, 'shown': 3, 'of': 70}
    with Image.open(tmp_path / 'out' / found['file']) as ours, Image.open(maps['file']) as theirs:
        assert np.array_equal(np.asarray(ours.convert('L')), np.asarray(theirs))
    with pytest.raises(SettingError, match='15 px high, not 4 channels'):
        PictureWriter(tmp_path / 'out').channels({**maps, 'channels': 4})
