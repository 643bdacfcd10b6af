"""JPEG files decoded at a half, a quarter or an eighth of their size, where training shrinks them at least as much."""

import io
import os

import numpy as np
from PIL import Image

from ..utils.errors import MissingLibrary
from .images import DECODER_ERRORS, FOREIGN_PROFILE, MAX_PIXELS, load_rgb, orientation
from .profiles import describe_profile, foreign_profile

REDUCTIONS = (8, 4, 2)


def import_cv2():
    """OpenCV; MissingLibrary, an ImportError, says how to get it."""
    try:
        import cv2
    except ImportError as error:
        raise MissingLibrary(
            f"decoder='fast' reads with OpenCV, which cannot be imported: {error}. `apt-get install libgl1` brings the "
            'library that opencv-python often lacks; opencv-python-headless, in its place, needs none') from error
    return cv2


def load_resized(path, transform, background='white', max_pixels=MAX_PIXELS, to_srgb=False):
    """``transform(load_rgb(path))`` for a transform that has ``region(size)``, with a reduced JPEG where one will do.

    Ordinary JPEG files only: in colour, upright, complete, and with no colour profile to convert. All others take the
    exact path, and are bad files for the same reasons.

    Raises:
        BadImage: see `load_rgb`, or by the transform.
    """
    data, size, profile = _ordinary_jpeg(path, max_pixels)
    region = None if data is None or (profile and to_srgb) else transform.region(size)
    if region is None:
        return transform(load_rgb(path, background, max_pixels, to_srgb))
    for reduction in REDUCTIONS:
        if reduction <= region.shrinks and (image := _decode(data, size, reduction)) is not None:
            if profile:
                image.info[FOREIGN_PROFILE] = describe_profile(profile, to_srgb=False)
            return region.cut(image, reduction)
    return region.cut(load_rgb(path, background, max_pixels, to_srgb))


def _ordinary_jpeg(path, max_pixels):
    """(content, (width, height), colour profile or None) of a file that OpenCV decodes as Pillow does; else Nones."""
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for ever
            return None, None, None
        with open(path, 'rb') as file:
            data = file.read(2)
            if data != b'\xff\xd8':
                return None, None, None
            data += file.read()
        with Image.open(io.BytesIO(data), formats=['JPEG']) as image:
            ordinary = (
                image.format == 'JPEG' and image.mode == 'RGB' and image.width * image.height <= max_pixels
                and orientation(image) == 1
                # OpenCV fills what is missing of a truncated file with grey.
                and data.endswith(b'\xff\xd9'))
            return (data, image.size, foreign_profile(image)) if ordinary else (None, None, None)
    except DECODER_ERRORS:
        return None, None, None  # load_rgb says what is wrong


def _decode(data, size, reduction):
    """PIL image of the sides over ``reduction``, rounded up; None where OpenCV cannot give that."""
    cv2 = import_cv2()
    # libjpeg's own flags; "grey" is OpenCV's name for the absence of its BGR bit.
    flags = getattr(cv2, f'IMREAD_REDUCED_GRAYSCALE_{reduction}') | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # more than its own limit of pixels
        return None
    width, height = (-(-side // reduction) for side in size)
    return Image.fromarray(pixels) if pixels is not None and pixels.shape == (height, width, 3) else None
