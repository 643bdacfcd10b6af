"""ICC colour profiles: which pictures are not in sRGB, and their conversion to sRGB.

Only an embedded ICC profile counts. The colour tags of EXIF, and the chunks gAMA, cHRM and cICP of PNG, are not read.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms, features

from ..utils.files import printable

DAMAGED = 'damaged, or of another kind of picture'
# Profiles named sRGB differ from each other by up to two levels, because their curves are rounded.
SRGB_TOLERANCE_LEVELS = 3
# The default of photo software: white stays white, and black becomes black.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
# Colour space of a profile -> the mode in which Pillow converts from it, and the modes of pictures that it fits.
_MODES = {
    'RGB': ('RGB', ('RGB', 'RGBA', 'RGBX', 'P', 'PA', 'L', 'LA', '1')), 'GRAY': ('L', ('L', 'LA', '1')),
    'CMYK': ('CMYK', ('CMYK',))}


def foreign_profile(image):
    """Name of a PIL image's embedded profile if it is not sRGB; None for sRGB, and without a profile.

    The effect of the profile decides, not its name: it is foreign if it moves some colour by more than three levels of
    255.
    """
    icc = image.info.get('icc_profile')
    if not icc or image.mode == 'LAB':
        return None
    if not features.check('littlecms2'):
        return 'not examined: this Pillow has no LittleCMS'
    name, space = _examine(icc)
    if name is not None and image.mode not in _MODES.get(space, ('', ()))[1]:
        return DAMAGED
    return name


def describe_profile(name, to_srgb):
    """The name of a foreign profile, followed by whether it is converted, for counts."""
    return f'{name} ({"ignored" if name == DAMAGED else "converted to sRGB" if to_srgb else "not converted"})'


def rgb_profile(image):
    """Bytes of a PIL image's embedded profile if it describes pixels in RGB, else None."""
    icc = image.info.get('icc_profile')
    fits = icc and image.mode in _MODES['RGB'][1] and _examine(icc)[1] == 'RGB' and foreign_profile(image) != DAMAGED
    return icc if fits else None


def convert_to_srgb(image):
    """PIL image with a foreign profile -> RGB, or RGBA where it has transparency, in sRGB.

    Relative colorimetric with black point compensation. An image with a damaged profile is returned unchanged.
    """
    if foreign_profile(image) in (None, DAMAGED):
        return image
    mode, _ = _MODES[_examine(image.info['icc_profile'])[1]]
    alpha = image.convert('RGBA').getchannel('A') if image.has_transparency_data else None
    rgb = ImageCms.applyTransform(image if image.mode == mode else image.convert(mode),
                                  _transform(image.info['icc_profile'], mode))
    if alpha is not None:
        rgb.putalpha(alpha)
    return rgb


@functools.lru_cache(maxsize=64)
def _examine(icc):
    """Bytes of a profile -> (its name, or None for sRGB; its colour space)."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        name = ' '.join(printable(ImageCms.getProfileDescription(profile)).split())[:80] or 'without a name'
        if space not in _MODES:
            return DAMAGED, space
        return (None if space != 'CMYK' and _is_srgb(icc, _MODES[space][0]) else name), space
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return DAMAGED, ''


def _is_srgb(icc, mode):
    steps = np.arange(0, 256, 51, dtype=np.uint8) if mode == 'RGB' else np.arange(256, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3) if mode == 'RGB' else steps[None]
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), _transform(icc, mode))).astype(int)
    expected = colours if mode == 'RGB' else colours[..., None]
    return np.abs(converted - expected).max() <= SRGB_TOLERANCE_LEVELS


@functools.lru_cache(maxsize=64)
def _transform(icc, mode):
    return ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile('sRGB'), mode,
                                   'RGB', _INTENT, _FLAGS)
