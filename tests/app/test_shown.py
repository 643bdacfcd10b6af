import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import build_small
from wfvae_toolkit.app import look_at, metrics_of, read_picture, result_html
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.report.pictures import error_map
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture(scope='module')
def model():
    return Reconstructor(build_small(), device='cpu')


@pytest.fixture(scope='module')
def metrics():
    return {name: METRICS.build(dict(type=name)) for name in ('PSNR', 'SSIM')}


def pixels_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_it_shows_what_the_toolkit_computes(model, metrics):
    pixels = pixels_of(30, 41)
    shown = look_at(model, 'run', pixels, metrics)
    [picture] = model.to_pictures(model.reconstruct(pixels))
    np.testing.assert_array_equal(shown.reconstruction, np.asarray(picture))
    np.testing.assert_array_equal(shown.error, error_map(pixels, shown.reconstruction))
    error = np.square(pixels / 255 - shown.reconstruction / 255).mean()
    assert shown.scores['PSNR'] == pytest.approx(-10 * np.log10(error), abs=1e-4)


def test_maps_are_the_latents_around_grey(model):
    pixels = pixels_of(32, 48)
    shown = look_at(model, 'run', pixels, {})
    latents = model.encode(pixels)[0].numpy()
    assert shown.channels.shape == latents.shape
    assert shown.limit == pytest.approx(np.abs(latents).max())
    np.testing.assert_allclose((shown.channels / 127.5 - 1) * shown.limit, latents, atol=shown.limit / 254)


def test_tiles_are_said_and_change_nothing_but_roundings(model):
    pixels = pixels_of(64, 64)
    tiled = look_at(Reconstructor(build_small(), device='cpu', tiling=dict(tile=16)), 'run', pixels, {})
    assert any('in tiles of about 16 px' in note for note in tiled.notes)
    whole = look_at(model, 'run', pixels, {})
    assert not any('tiles' in note for note in whole.notes)
    assert np.abs(tiled.reconstruction.astype(int) - whole.reconstruction).max() <= 1


def test_latents_without_statistics_are_said(model):
    measured = Reconstructor(build_small(), LatentStatistics((0.5,) * 3, (2.0,) * 3), device='cpu')
    assert 'no statistics' in look_at(model, 'run', pixels_of(8, 8), {}).notes[0]
    assert look_at(measured, 'run', pixels_of(8, 8), {}).notes == []


def test_scores_that_cannot_be_are_sentences(model, metrics):
    shown = look_at(model, 'run', pixels_of(1, 1), metrics)
    assert shown.reconstruction.shape == (1, 1, 3)
    assert 'at least 11x11 px' in shown.scores['SSIM']


def test_perceptual_scores_of_a_huge_picture_are_left_out(model, monkeypatch):
    monkeypatch.setattr('wfvae_toolkit.app.shown.AUTO_PIXELS', 32 * 32)
    stlpips = {'STLPIPS': metrics_of()['STLPIPS']}
    assert look_at(model, 'run', pixels_of(32, 33), stlpips).scores == {
        'STLPIPS': 'not computed for more than 1,024 pixels'}


@pytest.mark.parametrize(('name', 'content'), [
    ('text.png', b'no picture'), ('empty.jpg', b''), ('cut.png', b'\x89PNG\r\n\x1a\n')])
def test_a_wrong_file_is_one_sentence_without_its_folder(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingError) as caught:
        read_picture(tmp_path / name)
    assert str(caught.value).startswith(f'{name} cannot be read as a picture: ')
    assert str(tmp_path) not in str(caught.value)
    assert '\n' not in str(caught.value)


def test_odd_pictures_are_read_by_the_rules_of_datasets(tmp_path):
    grey = Image.fromarray(np.array([[0, 65535]], np.uint16))
    grey.save(tmp_path / '16.png')
    assert read_picture(tmp_path / '16.png')[0].tolist() == [[[0] * 3, [255] * 3]]
    Image.new('RGBA', (1, 1), (9, 9, 9, 0)).save(tmp_path / 'clear.png')
    assert read_picture(tmp_path / 'clear.png')[0].tolist() == [[[255] * 3]]
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('black', 'white')]
    frames[0].save(tmp_path / 'moves.gif', save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / 'moves.gif')[0].max() == 0
    turned = Image.fromarray(pixels_of(2, 3))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / 'turned.png', exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / 'turned.png')[0], np.rot90(pixels_of(2, 3), -1))


def test_names_are_escaped_and_every_picture_is_written(model, metrics, tmp_path):
    pixels = pixels_of(16, 16)
    hostile = '<img src=x onerror=alert(1)>'
    results = [look_at(model, name, pixels, metrics) for name in (hostile, 'second')]
    html = result_html(hostile, pixels, results, ['A note.'], tmp_path, lambda file: f'/at/{file.name}')
    assert '<img src=x' not in html
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {name.split('"')[0] for name in html.split('/at/')[1:]}
    with Image.open(tmp_path / '1_reconstruction.png') as picture:
        np.testing.assert_array_equal(np.asarray(picture), results[1].reconstruction)


def test_the_page_has_no_gradients(model, metrics):
    with torch.enable_grad():
        assert look_at(model, 'run', pixels_of(16, 16), metrics).scores['PSNR'] > 0
