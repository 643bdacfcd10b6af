"""A picture's file, or its content as bytes -> one RGB picture by stated rules, or a `BadImage` with the reason.

| in the file | becomes |
| --- | --- |
| EXIF or XMP orientation | applied; one that cannot be read counts as upright |
| 1 bit, grey, palette, YCbCr | Pillow's conversion |
| CMYK | Pillow's plain conversion |
| an ICC profile other than sRGB | not applied, and counted; with ``convert_to_srgb`` it is: see `profiles` |
| alpha, a transparent palette entry or colour | composed over ``background`` |
| 16-bit grey | round(v / 257): 0 stays 0, 65535 becomes 255 |
| 16 bits a channel in colour | the high byte (Pillow reads no more) |
| 32-bit integers | as 16-bit grey; beyond 0..65535 bad, since no white level is agreed on |
| float | 0 is black, 1 white; outside of that, or NaN, bad for the same reason |
| several frames or pages | the first |
| LAB | sRGB, by Pillow |
| formats not in `FORMATS` | bad |
"""

import contextlib
import functools
import io
import os
import re
import stat
import struct
import warnings
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageOps, UnidentifiedImageError, features

from wfvae_toolkit.utils.errors import SettingError

from .profiles import convert_to_srgb, describe_profile, foreign_profile, rgb_profile

MAX_PIXELS = 178_956_970  # 13,377 px square, 0.5 GB as RGB: the size at which Pillow refuses by default.

# Only these: for other formats Pillow may start programs (EPS) or open further files.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'JPEG2000', 'PPM', 'AVIF')
# Formats that a build of Pillow may lack, and the feature of Pillow that they need.
_LIBRARIES = {'JPEG': 'jpg', 'PNG': 'zlib', 'WEBP': 'webp', 'JPEG2000': 'jpg_2000', 'AVIF': 'avif'}

FOREIGN_PROFILE = 'foreign_profile'  # in Image.info: `describe_profile` of the file's

# Errors that Pillow's decoders raise on damaged files. OSError covers truncated, unidentified and unreadable files.
# MemoryError comes from an absurd size in a damaged header far more often than from a full memory.
DECODER_ERRORS = (
    OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, SyntaxError, EOFError, RuntimeError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError)


class BadImage(Exception):
    """A file that cannot be used as a picture.

    Attributes:
        path (str | None): the file; None if only the caller knows it, as in a transform.
        reason (str): one line for a report.
    """

    def __init__(self, path, reason):
        super().__init__(path, reason)
        self.path = None if path is None else os.fspath(path)
        self.reason = reason

    def __str__(self):
        return self.reason if self.path is None else f'{self.path}: {self.reason}'


def keep_memory():
    """Let Pillow keep four blocks of 16 MB for the next pictures of this process, unless PILLOW_BLOCKS_MAX is set.

    By default it gives all memory back after each picture. Decoding 12 megapixels then takes 56 ms in place of 32: the
    system has to clear new pages.
    """
    if 'PILLOW_BLOCKS_MAX' not in os.environ:
        Image.core.set_blocks_max(4)


@functools.cache
def readable_formats():
    """The formats of `FORMATS` that the installed Pillow decodes."""
    Image.init()
    return tuple(name for name in FORMATS
                 if name in Image.OPEN and (name not in _LIBRARIES or features.check(_LIBRARIES[name])))


@functools.cache
def readable_extensions():
    """Suffixes, such as ``'jpg'``, of the formats that the installed Pillow decodes."""
    formats = readable_formats()
    known = [(formats.index(name), suffix.removeprefix('.')) for suffix, name in Image.registered_extensions().items()
             if name in formats]
    return tuple(suffix for _, suffix in sorted(known))


def load_rgb(source, background='white', max_pixels=MAX_PIXELS, to_srgb=False):
    """Read a picture upright, in mode RGB, by the rules of this module.

    A colour profile other than sRGB is named in its ``info`` under `FOREIGN_PROFILE`.

    Args:
        source (str | Path | bytes | PIL.Image.Image): path of the file, content of the file, or a picture that Pillow
            opened or a program made; that picture itself does not change.
        background (str | tuple): what alpha is composed over, a CSS colour or (r, g, b) in 0..255.
        max_pixels (int): larger pictures are refused by their header, before anything is decoded. Pillow itself refuses
            above twice ``Image.MAX_IMAGE_PIXELS``, a number for the whole process; if that is lower, it is raised.
        to_srgb (bool): convert the colours of such a profile to sRGB; False reads the numbers as they are.

    Raises:
        BadImage: missing, empty, truncated, no picture, too large, unreadable, not a regular file.
        SettingError: ``background`` is no colour.
        TypeError: ``source`` is none of these.
    """
    background = rgb_colour(background)
    with _opened(source, max_pixels) as image:
        image.load()
        _turn_upright(image)
        return in_rgb(image, background, to_srgb)


def load_upright(source, max_pixels=MAX_PIXELS):
    """PIL image of ``source`` in its own mode, decoded and turned upright; arguments and BadImage as of `load_rgb`."""
    with _opened(source, max_pixels) as image:
        image.load()
        _turn_upright(image)
        return image.copy()


def in_rgb(image, background='white', to_srgb=False):
    """`to_rgb`, with the rules on colour profiles of `load_rgb`; a picture in RGB is changed in place."""
    if image.mode == 'F' or image.mode.startswith('I'):
        icc = image.info.get('icc_profile')
        image = _to_8_bits(image)
        image.info['icc_profile'] = icc
    name = foreign_profile(image)
    if name and to_srgb:
        image = convert_to_srgb(image)
    if image.mode == 'RGB' and not image.has_transparency_data:
        # A copy of 12 megapixels takes twice as long as decoding them: its memory is new to the process.
        rgb = image
        rgb.info.clear()
    else:
        rgb = to_rgb(image, background)
    if name:
        rgb.info[FOREIGN_PROFILE] = describe_profile(name, to_srgb)
    return rgb


def embedded_profile(source):
    """Bytes of a picture's ICC profile if it describes the pixels of `load_rgb`, else None.

    Only the header is read. ``source`` is as of `load_rgb`.

    Raises:
        BadImage: as in `read_size`.
    """
    with _opened(source, MAX_PIXELS) as image:
        return rgb_profile(image)


def read_size(source, max_pixels=MAX_PIXELS):
    """(width, height) in px of a picture turned upright, from its header: nothing is decoded.

    ``source`` is as of `load_rgb`.

    Raises:
        BadImage: as in `load_rgb`, except for faults that only decoding shows.
    """
    with _opened(source, max_pixels) as image:
        width, height = image.size
        return (height, width) if orientation(image) in range(5, 9) else (width, height)


@contextlib.contextmanager
def _opened(source, max_pixels):
    """PIL image, not decoded yet; an error of a decoder, here or inside the context, becomes a BadImage."""
    if not isinstance(source, (str, os.PathLike, bytes, Image.Image)):
        raise TypeError(f'{source!r:.80} is not a picture: use a path, the bytes of a file, or a PIL image')
    is_open = isinstance(source, Image.Image)
    if not is_open and Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    path = source if isinstance(source, (str, os.PathLike)) else getattr(source, 'filename', None) or None
    try:
        with _open(source) as image:
            if image.width * image.height > max_pixels:
                raise BadImage(path, f'{image.width}x{image.height} px, more than max_pixels={max_pixels}')
            yield image
    except Image.DecompressionBombError as error:
        raise BadImage(path, f'more than max_pixels={max_pixels}: {error}') from error
    except DECODER_ERRORS as error:
        raise BadImage(path, reason_of(error)) from error


def _open(source):
    if isinstance(source, Image.Image):
        return source.copy()
    if isinstance(source, bytes):
        empty = not source
    else:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise BadImage(source, 'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file')
        empty = status.st_size == 0
    if empty:
        raise BadImage(None if isinstance(source, bytes) else source, 'zero bytes')
    with warnings.catch_warnings():
        # Pillow warns from 89 megapixels on without the name of the file; max_pixels decides instead.
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=readable_formats())


def to_rgb(image, background='white'):
    """PIL image of any mode -> mode RGB without metadata, by the rules of this module.

    Raises:
        SettingError: there is no rule for the image's mode or for its range of values.
    """
    if image.mode == 'F' or image.mode.startswith('I'):
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert('RGBA')
        rgb = Image.new('RGB', image.size, rgb_colour(background))
        rgb.paste(image, mask=image.getchannel('A'))
        return rgb
    rgb = image.convert('RGB')
    rgb.info.clear()
    return rgb


def rgb_colour(colour):
    """CSS colour or (r, g, b) -> (r, g, b), each 0..255; SettingError otherwise."""
    if isinstance(colour, str):
        try:
            return ImageColor.getrgb(colour)[:3]
        except ValueError:
            raise SettingError(f'{colour!r} is not a colour; use a CSS name or code such as "white", '
                               '"#808080"') from None
    values = tuple(colour) if isinstance(colour, (list, tuple)) else ()
    if len(values) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in values):
        raise SettingError(f'{colour!r}: use a colour name such as "white" or three integers of 0..255')
    return values


def _to_8_bits(image):
    """Mode F, I or I;16* -> L, or LA if the file declares one value transparent."""
    values = np.asarray(image)
    white = 1 if image.mode == 'F' else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # so that NaN fails too
        raise SettingError(f'values {low}..{high}, in mode {image.mode} only 0 (black) to {white} (white) can be read')
    grey = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
    if 'transparency' in image.info:
        grey.putalpha(Image.fromarray(np.where(values == image.info['transparency'], 0, 255).astype(np.uint8)))
    return grey


def orientation(image):
    """Orientation of an open picture, 1 to 8, from EXIF, or else from XMP, as in later versions of Pillow."""
    exif, xmp = image.getexif(), image.info.get('xmp')
    said = re.search(rb'tiff:Orientation(="|>)([1-8])', xmp) if isinstance(xmp, bytes) else None
    if said and ExifTags.Base.Orientation not in exif:
        exif[ExifTags.Base.Orientation] = int(said[2])  # where exif_transpose looks
    return exif.get(ExifTags.Base.Orientation, 1)


def _turn_upright(image):
    try:
        orientation(image)
        ImageOps.exif_transpose(image, in_place=True)
    except DECODER_ERRORS:
        # The pixels are decoded already. Only the metadata is damaged, or could not be written back.
        return


def reason_of(error):
    """One line for a report on an error of a decoder or of the file system."""
    if isinstance(error, FileNotFoundError):
        return 'missing'
    if isinstance(error, UnidentifiedImageError):
        return f'not an image, or its header is damaged (formats that are read: {", ".join(readable_formats())})'
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f'{type(error).__name__}: {error}'
