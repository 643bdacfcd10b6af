import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.datasets.images import load_rgb
from wfvae_toolkit.inference.inputs import to_batch
from wfvae_toolkit.utils.errors import MissingFile, SettingError


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.fixture
def expected(pixels):
    """(1, 3, 5, 7) in [-1, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1


FORMS = {
    'path': lambda pixels, path: path,
    'text': lambda pixels, path: str(path),
    'PIL': lambda pixels, path: Image.fromarray(pixels),
    'array': lambda pixels, path: pixels,
    'float array': lambda pixels, path: pixels.astype(np.float32) / np.float32(127.5) - 1,
    'float64 array': lambda pixels, path: (pixels.astype(np.float32) / np.float32(127.5) - 1).astype(np.float64),
    'batch of arrays': lambda pixels, path: pixels[None],
    'flipped twice': lambda pixels, path: np.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1],
    'tensor': lambda pixels, path: torch.from_numpy(pixels).permute(2, 0, 1),
    'batch': lambda pixels, path: torch.from_numpy(pixels).permute(2, 0, 1)[None],
    'float tensor': lambda pixels, path: torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1,
    'with gradient': lambda pixels, path: (torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
                                           ).requires_grad_(),
    'list': lambda pixels, path: [path],
}


@pytest.mark.parametrize('form', list(FORMS))
def test_every_form_gives_the_same_batch(tmp_path, pixels, expected, form):
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    before = pixels.copy()
    batch = to_batch(FORMS[form](pixels, path))
    assert batch.dtype == torch.float32
    assert not batch.requires_grad
    assert torch.equal(batch, expected)
    assert np.array_equal(pixels, before)


def test_a_list_of_different_forms_is_one_batch(tmp_path, pixels, expected):
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    batch = to_batch([form(pixels, path) for name, form in FORMS.items() if name != 'list'])
    assert torch.equal(batch, expected.expand(len(FORMS) - 1, -1, -1, -1))


def test_grey_arrays_have_three_equal_channels(pixels):
    for grey in (pixels[..., 0], pixels[..., 0].astype(np.float16) / 255):
        batch = to_batch(grey)
        assert batch.shape == (1, 3, 5, 7)
        assert torch.equal(batch[:, 0], batch[:, 2])


def test_a_pil_image_is_what_its_file_is(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x112] = 6
    turned, alpha, deep = tmp_path / 'turned.jpg', tmp_path / 'alpha.png', tmp_path / 'deep.png'
    Image.fromarray(pixels).save(turned, exif=exif)
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(alpha)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(deep)
    for path in (turned, alpha, deep):
        with Image.open(path) as image:
            size, mode = image.size, image.mode
            batch = to_batch(image)
            assert (image.size, image.mode) == (size, mode)
        assert torch.equal(batch, to_batch(path))
        assert torch.equal(batch, to_batch(np.asarray(load_rgb(path))))
    assert to_batch(turned).shape == (1, 3, 7, 5)


@pytest.mark.parametrize('picture', [
    torch.zeros(5, 7, 3), torch.zeros(5, 7), torch.zeros(1, 5, 7), torch.zeros(1, 1, 3, 5, 7),
    torch.zeros(3, 5, 7, dtype=torch.int64), torch.zeros(3, 5, 7, dtype=torch.bool), torch.zeros(0, 3, 5, 7),
    torch.zeros(3, 0, 7), np.zeros((3, 5, 7)), np.zeros((5, 7, 4), np.uint8), np.zeros((5, 7, 1), np.uint8),
    np.zeros(7), np.zeros((5, 7, 3), np.int64), np.zeros((5, 7, 3), bool), np.zeros((0, 7, 3), np.uint8),
    [], None, 3, {}, [[torch.zeros(3, 5, 7)]], [None]], ids=lambda value: f'{type(value).__name__}')
def test_other_things_say_what_is_accepted(picture):
    with pytest.raises(SettingError, match=r'accepted are a path, a PIL image, arrays \(H, W, 3\)'):
        to_batch(picture)


@pytest.mark.parametrize('value', [1.01, -1.5, 255.0, float('nan'), float('inf')])
def test_values_out_of_range_are_named(value):
    for picture in (torch.zeros(3, 5, 7), np.zeros((5, 7, 3), np.float32)):
        picture[1, 1, 1] = value
        with pytest.raises(SettingError, match='-1 is black and 1 white'):
            to_batch(picture)


def test_sizes_that_differ_are_named(pixels):
    with pytest.raises(SettingError, match='different sizes in one list, 6x5, 7x5 px'):
        to_batch([pixels, pixels[:, 1:]])


def test_files_that_are_no_picture_are_named(tmp_path):
    (tmp_path / 'words.png').write_text('words')
    with pytest.raises(SettingError, match='words.png: not an image'):
        to_batch(tmp_path / 'words.png')
    with pytest.raises(MissingFile, match='no picture .*nowhere.png'):
        to_batch(tmp_path / 'nowhere.png')
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / 'half.png')
    content = (tmp_path / 'half.png').read_bytes()
    (tmp_path / 'half.png').write_bytes(content[:len(content) // 2])
    with Image.open(tmp_path / 'half.png') as image, pytest.raises(SettingError, match='half.png'):
        to_batch(image)
