"""Decode a JPEG at 1/2, 1/4 or 1/8 of its size, where training shrinks it at least as much."""

import io
import os

import numpy as np
from PIL import Image

from ..utils.errors import MissingLibrary
from .extras import check_masks
from .images import DECODER_ERRORS, FOREIGN_PROFILE, MAX_PIXELS, load_rgb, orientation
from .profiles import describe_profile, foreign_profile
from .transforms import apply_transform

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


def load_resized(source, transform, background='white', max_pixels=MAX_PIXELS, to_srgb=False):
    """`load_resized_with_masks` of a picture without masks -> PIL image."""
    return load_resized_with_masks(source, {}, transform, background, max_pixels, to_srgb)[0]


def load_resized_with_masks(source, masks, transform, background='white', max_pixels=MAX_PIXELS, to_srgb=False):
    """``transform(load_rgb(source))`` and its masks, for a transform with ``region(size)``, by a reduced JPEG.

    Only an ordinary JPEG is reduced: in colour, upright, complete, and without a colour profile to convert. Every other
    picture is read by `load_rgb`, and is a bad file for the same reasons. ``source`` is a path or bytes.

    Raises:
        BadImage: see `load_rgb`, or by the transform.
    """
    data, size, profile = _ordinary_jpeg(source, max_pixels)
    region = None if data is None or (profile and to_srgb) else transform.region(size)
    if region is None:
        image = load_rgb(source, background, max_pixels, to_srgb)
        check_masks(masks, image.size)
        return apply_transform(transform, image, masks)
    check_masks(masks, size)
    masks = region.cut_masks(masks)
    for reduction in REDUCTIONS:
        if reduction <= region.shrinks and (image := _decode(data, size, reduction)) is not None:
            if profile:
                image.info[FOREIGN_PROFILE] = describe_profile(profile, to_srgb=False)
            return region.cut(image, reduction), masks
    return region.cut(load_rgb(source, background, max_pixels, to_srgb)), masks


def _ordinary_jpeg(source, max_pixels):
    """(content, (width, height), colour profile or None) of a JPEG that OpenCV decodes as Pillow does; else Nones."""
    try:
        data = source if isinstance(source, bytes) else _read_jpeg(source)
        with Image.open(io.BytesIO(data), formats=['JPEG']) as image:
            ordinary = (
                image.format == 'JPEG' and image.mode == 'RGB' and image.width * image.height <= max_pixels
                and orientation(image) == 1
                # OpenCV fills what is missing of a truncated file with grey.
                and data.endswith(b'\xff\xd9'))
            return (data, image.size, foreign_profile(image)) if ordinary else (None, None, None)
    except DECODER_ERRORS:
        return None, None, None  # load_rgb gives the reason


def _read_jpeg(path):
    """Content of a file if it starts like a JPEG, else no bytes."""
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return b''
    with open(path, 'rb') as file:
        start = file.read(2)
        return start + file.read() if start == b'\xff\xd8' else b''


def _decode(data, size, reduction):
    """PIL image with sides of 1/``reduction``, rounded up; None where OpenCV cannot decode at that size."""
    cv2 = import_cv2()
    # These flags ask libjpeg to reduce. "GRAYSCALE" stands for a missing BGR bit; COLOR_RGB then adds colour.
    flags = getattr(cv2, f'IMREAD_REDUCED_GRAYSCALE_{reduction}') | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # more pixels than OpenCV's own limit
        return None
    width, height = (-(-side // reduction) for side in size)
    return Image.fromarray(pixels) if pixels is not None and pixels.shape == (height, width, 3) else None
