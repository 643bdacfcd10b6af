import contextlib
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from wfvae_toolkit.datasets import BadImage, load_rgb, to_rgb
from wfvae_toolkit.datasets import images as images_module

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (10, 14, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (10, 14), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (10, 14), dtype=np.uint8)
WORDS = RNG.integers(0, 65536, (10, 14), dtype=np.uint16)
WORDS[0, :3] = 0, 65535, 256


def read(path, **options):
    image = load_rgb(path, **options)
    assert image.mode == 'RGB'
    return np.asarray(image).astype(int)


def as_grey(values):
    return np.repeat(np.asarray(values)[..., None], 3, -1).astype(int)


def over(colour, alpha, background):
    """Alpha composition in exact arithmetic."""
    weight = alpha[..., None] / 255
    return np.rint(colour * weight + np.array(background) * (1 - weight))


def save(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize('name', ['a.png', 'a.bmp', 'a.tif', 'a.webp', 'a.ppm'])
def test_colour_is_kept_exactly(tmp_path, name):
    path = save(Image.fromarray(COLOUR), tmp_path / name, lossless=True)
    np.testing.assert_array_equal(read(path), COLOUR)


def test_jpeg_is_what_pillow_decodes(tmp_path):
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.jpg')
    np.testing.assert_array_equal(read(path), np.asarray(Image.open(path)))


def test_a_wrong_extension_does_not_matter(tmp_path):
    save(Image.fromarray(COLOUR), tmp_path / 'a.png')
    (tmp_path / 'a.png').rename(tmp_path / 'a.jpg')
    np.testing.assert_array_equal(read(tmp_path / 'a.jpg'), COLOUR)


def test_grey_and_one_bit(tmp_path):
    np.testing.assert_array_equal(read(save(Image.fromarray(GREY), tmp_path / 'a.png')), as_grey(GREY))
    bits = GREY > 127
    np.testing.assert_array_equal(read(save(Image.fromarray(bits), tmp_path / 'b.png')), as_grey(bits * 255))


@pytest.mark.parametrize('background', ['white', 'black', (10, 20, 200)])
def test_alpha_is_composed_over_the_background(tmp_path, background):
    rgb = {'white': (255,) * 3, 'black': (0,) * 3}.get(background, background)
    rgba = save(Image.fromarray(np.dstack([COLOUR, ALPHA])), tmp_path / 'a.png')
    assert np.abs(read(rgba, background=background) - over(COLOUR, ALPHA, rgb)).max() <= 1
    la = save(Image.merge('LA', [Image.fromarray(GREY), Image.fromarray(ALPHA)]), tmp_path / 'b.png')
    assert np.abs(read(la, background=background) - over(as_grey(GREY), ALPHA, rgb)).max() <= 1


def test_white_is_the_default_and_opaque_pixels_are_exact(tmp_path):
    alpha = np.where(ALPHA > 127, 255, 0).astype(np.uint8)
    path = save(Image.fromarray(np.dstack([COLOUR, alpha])), tmp_path / 'a.png')
    np.testing.assert_array_equal(read(path), np.where(alpha[..., None] > 0, COLOUR, 255))


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(image.convert('RGB'))
    np.testing.assert_array_equal(read(save(image, tmp_path / 'a.png')), expected)
    indices = np.asarray(image)
    one_clear = save(image, tmp_path / 'b.png', transparency=3)
    np.testing.assert_array_equal(read(one_clear), np.where(indices[..., None] == 3, 255, expected))
    several = save(image, tmp_path / 'c.png', transparency=bytes([0, 128] + [255] * 14))
    alpha = np.select([indices == 0, indices == 1], [0, 128], 255)
    assert np.abs(read(several) - over(expected, alpha, (255,) * 3)).max() <= 1


def test_one_transparent_colour_or_grey(tmp_path):
    colour = save(Image.fromarray(COLOUR), tmp_path / 'a.png', transparency=tuple(int(v) for v in COLOUR[2, 3]))
    clear = (COLOUR[2, 3] == COLOUR).all(-1, keepdims=True)
    np.testing.assert_array_equal(read(colour), np.where(clear, 255, COLOUR))
    words = save(Image.fromarray(WORDS), tmp_path / 'b.png', transparency=256)
    expected = np.where(WORDS == 256, 255, np.rint(WORDS / 257))
    np.testing.assert_array_equal(read(words), as_grey(expected))


def test_cmyk(tmp_path):
    for name in ('a.jpg', 'a.tif'):
        path = save(Image.new('CMYK', (8, 8), (255, 0, 0, 0)), tmp_path / name)
        np.testing.assert_array_equal(read(path)[0, 0], (0, 255, 255))


@pytest.mark.parametrize(('name', 'dtype'), [('a.png', '<u2'), ('a.tif', '<u2'), ('b.tif', '>u2')])
def test_16_bit_grey_is_scaled(tmp_path, name, dtype):
    path = save(Image.fromarray(WORDS.astype(dtype)), tmp_path / name)
    assert Image.open(path).mode.startswith('I;16')
    np.testing.assert_array_equal(read(path), as_grey(np.rint(WORDS / 257)))
    assert read(path)[0, :3, 0].tolist() == [0, 255, 1]


def test_16_bit_modes_in_memory():
    expected = as_grey(np.rint(WORDS / 257))
    little = Image.frombytes('I;16L', (14, 10), WORDS.astype('<u2').tobytes())
    np.testing.assert_array_equal(np.asarray(to_rgb(little)), expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(Image.fromarray(WORDS.astype(np.int32)))), expected)


def test_32_bit_integers_are_16_bit_grey_or_bad(tmp_path):
    path = save(Image.fromarray(WORDS.astype(np.int32)), tmp_path / 'a.tif')
    np.testing.assert_array_equal(read(path), as_grey(np.rint(WORDS / 257)))
    with pytest.raises(BadImage, match='0..65536'):
        load_rgb(save(Image.fromarray(np.array([[0, 65536]], np.int32)), tmp_path / 'b.tif'))


def test_float_is_0_to_1_or_bad(tmp_path):
    values = (GREY / 255).astype(np.float32)
    np.testing.assert_array_equal(read(save(Image.fromarray(values), tmp_path / 'a.tif')), as_grey(GREY))
    for number, wrong in enumerate([1.5, -0.1, np.nan]):
        values[0, 0] = wrong
        with pytest.raises(BadImage, match='0 .black. to 1'):
            load_rgb(save(Image.fromarray(values), tmp_path / f'{number}.tif'))


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new('RGB', (8, 6), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    for name in ('a.gif', 'a.png', 'a.webp', 'a.tif'):
        save(frames[0], tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert Image.open(tmp_path / name).n_frames == 3
        np.testing.assert_array_equal(read(tmp_path / name), np.broadcast_to((250, 0, 0), (6, 8, 3)))


UPRIGHT = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a)}


@pytest.mark.parametrize('orientation', UPRIGHT)
@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif', 'a.jpg'])
def test_exif_orientation_is_applied_once(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(COLOUR), tmp_path / name, exif=exif, lossless=True)
    flat = save(Image.fromarray(COLOUR), tmp_path / f'flat_{name}', lossless=True)
    np.testing.assert_array_equal(read(path), UPRIGHT[orientation](read(flat)))
    assert not load_rgb(path).info


def test_orientation_of_16_bit_grey(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.fromarray(WORDS), tmp_path / 'a.png', exif=exif)
    np.testing.assert_array_equal(read(path), np.rot90(as_grey(np.rint(WORDS / 257)), -1))


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp'])
def test_damaged_exif_counts_as_upright(tmp_path, name):
    path = save(Image.fromarray(COLOUR), tmp_path / name, exif=b'Exif\0\0no such header')
    assert read(path).shape == (10, 14, 3)


@pytest.mark.filterwarnings('ignore')  # Pillow's, about damaged TIFF headers
@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp', 'a.tif', 'a.bmp', 'a.gif', 'a.ppm'])
def test_truncated_files_are_bad(tmp_path, name):
    path = save(Image.fromarray(np.tile(COLOUR, (8, 8, 1))), tmp_path / name)
    load_rgb(path)
    data = path.read_bytes()
    for length in (*range(1, 40), len(data) // 2, len(data) * 9 // 10):
        path.write_bytes(data[:length])
        with pytest.raises(BadImage) as caught:
            load_rgb(path)
        assert caught.value.path == str(path)
        assert caught.value.reason


@pytest.mark.filterwarnings('ignore')  # Pillow's, about sizes in damaged headers
def test_damaged_bytes_give_a_picture_or_bad_image(tmp_path):
    rng = np.random.default_rng(1)
    for name in ('a.jpg', 'a.png', 'a.webp', 'a.bmp', 'a.gif'):
        data = save(Image.fromarray(COLOUR), tmp_path / name).read_bytes()
        for _ in range(150):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 4):
                damaged[place] = rng.integers(0, 256)
            (tmp_path / name).write_bytes(damaged)
            with contextlib.suppress(BadImage):
                load_rgb(tmp_path / name, max_pixels=10**6)


def test_no_pictures(tmp_path):
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'text.jpg').write_text('hello')
    (tmp_path / 'script.jpg').write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n')
    (tmp_path / 'folder.jpg').mkdir()
    for name, reason in {'empty.jpg': 'zero bytes', 'text.jpg': 'not an image', 'script.jpg': 'not an image',
                         'folder.jpg': 'a folder', 'none.jpg': 'missing', 'nul\0.jpg': 'null'}.items():
        with pytest.raises(BadImage, match=reason):
            load_rgb(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs named pipes')
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.jpg')
    with pytest.raises(BadImage, match='regular'):
        load_rgb(tmp_path / 'a.jpg')


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.png')
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything: let the system's answer be what others get
        def refuse(*arguments, **settings):
            raise PermissionError(13, 'Permission denied', str(path))
        monkeypatch.setattr(Image, 'open', refuse)
    with pytest.raises(BadImage, match='ermission'):
        load_rgb(path)


def png_header(width, height):
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    data = b'IDAT' + zlib.compress(b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk)) for chunk in (header, data))


def test_bombs_are_refused_from_their_header(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: pytest.fail('decoded'))
    (tmp_path / 'bomb.png').write_bytes(png_header(200_000, 200_000))
    (tmp_path / 'large.png').write_bytes(png_header(100, 101))
    with pytest.raises(BadImage, match='max_pixels=178956970'):
        load_rgb(tmp_path / 'bomb.png')
    with pytest.raises(BadImage, match='100x101 px, more than max_pixels=10000'):
        load_rgb(tmp_path / 'large.png', max_pixels=10_000)


def test_max_pixels_may_exceed_pillows_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 60)
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.png')
    np.testing.assert_array_equal(read(path, max_pixels=140), COLOUR)


@pytest.mark.parametrize('error', [SyntaxError, struct.error, OverflowError, IndexError, KeyError, EOFError,
                                   zlib.error, ZeroDivisionError, TypeError, MemoryError, NotImplementedError])
def test_a_decoders_surprise_is_a_bad_image(tmp_path, monkeypatch, error):
    def fail(self):
        raise error('surprise')

    path = save(Image.fromarray(COLOUR), tmp_path / 'a.png')
    monkeypatch.setattr(ImageFile.ImageFile, 'load', fail)
    with pytest.raises(BadImage, match='surprise'):
        load_rgb(path)


def test_an_interrupt_is_not_swallowed(tmp_path, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    path = save(Image.fromarray(COLOUR), tmp_path / 'a.png')
    monkeypatch.setattr(ImageFile.ImageFile, 'load', interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_rgb(path)
    assert not any(issubclass(KeyboardInterrupt, error) for error in images_module.DECODER_ERRORS)


@pytest.mark.parametrize('background', ['no such colour', (1, 2), (0, 0, 256)])
def test_a_wrong_background_is_no_bad_image(tmp_path, background):
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.png')
    with pytest.raises(ValueError, match='colou?r'):
        load_rgb(path, background=background)


def test_bad_image_survives_pickling():
    error = pickle.loads(pickle.dumps(BadImage('a/b.jpg', 'zero bytes')))
    assert (error.path, error.reason, str(error)) == ('a/b.jpg', 'zero bytes', 'a/b.jpg: zero bytes')


def test_memory_is_kept_for_the_next_picture_unless_the_user_decides(monkeypatch):
    before = Image.core.get_blocks_max()
    try:
        Image.core.set_blocks_max(0)
        monkeypatch.setenv('PILLOW_BLOCKS_MAX', '0')
        images_module.keep_memory()
        assert Image.core.get_blocks_max() == 0
        monkeypatch.delenv('PILLOW_BLOCKS_MAX')
        images_module.keep_memory()
        assert Image.core.get_blocks_max() == 4
    finally:
        Image.core.set_blocks_max(before)
