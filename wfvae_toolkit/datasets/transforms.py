"""PIL image -> PIL image; what is random is drawn from torch's global generator.

Resizing is bicubic and antialiased. A picture smaller than a transform needs is a setting of that
transform, ``too_small``: 'upsample' enlarges it and marks it, so that it is counted; 'drop' makes it
a bad file; 'error' stops.
"""

from typing import NamedTuple

import torch
from PIL import Image

from wfvae_toolkit.utils.errors import SettingError, is_number

from ..registry import TRANSFORMS
from .images import MAX_PIXELS, BadImage

TOO_SMALL = ('upsample', 'drop', 'error')
_UPSAMPLED = 'upsampled'  # in Image.info, which PIL hands on from picture to picture


def fixed_pipeline(resolution=None, crop=None):
    """Transforms of every tool's ``--resolution`` and ``--crop``: short side to the one, px, centre cut to the other.

    ``crop`` is ``resolution`` unless given; with neither there is nothing to do.
    """
    steps = [] if resolution is None else [dict(type='ResizeShortSide', size=resolution)]
    if resolution is not None or crop is not None:
        steps.append(dict(type='CenterCrop', size=resolution if crop is None else crop))
    return steps


def describe_pipeline(pipeline):
    """A line for a protocol."""
    steps = [f'{step["type"]}({", ".join(f"{k}={v}" for k, v in step.items() if k != "type")})' for step in pipeline]
    return ', '.join(steps) or 'none: whole images'


def was_upsampled(image):
    """Whether a transform had to enlarge the picture."""
    return image.info.get(_UPSAMPLED) is True


def crop_of(pipeline):
    """Edge in px of every picture that leaves built transforms, None where that depends on the picture."""
    shaping = [transform for transform in pipeline if not isinstance(transform, RandomFlip)]
    return shaping[-1].size if shaping and isinstance(shaping[-1], (CenterCrop, RandomCrop)) else None


class Region(NamedTuple):
    """The part of a picture that is resized to a whole one."""

    box: tuple[float, float, float, float]  # left, top, right and bottom in px
    size: tuple[int, int]  # width and height that it gets, in px

    @property
    def shrinks(self):
        """By which factor at least, of the two sides; below 1 it grows."""
        left, top, right, bottom = self.box
        return min((right - left) / self.size[0], (bottom - top) / self.size[1])

    def cut(self, image, reduction=1):
        """The region of a picture that was decoded at 1/``reduction`` of the sides that ``box`` counts in."""
        box = tuple(edge / reduction for edge in self.box)
        return image.resize(self.size, Image.Resampling.BICUBIC, box=box)


class _Sized:
    """A transform that needs ``size`` px on the short side."""

    def __init__(self, size: int, too_small='upsample'):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise SettingError(f'{type(self).__name__}: size {size!r}: use a whole number of pixels from 1, '
                               'such as 256')
        if too_small not in TOO_SMALL:
            raise SettingError(f'{type(self).__name__}: too_small={too_small!r}: use one of {TOO_SMALL}')
        self.size = size
        self.too_small = too_small

    def _must_enlarge(self, image):
        """Whether the picture is too small; raises where that is to drop it or an error."""
        if min(image.size) >= self.size:
            return False
        reason = f'{image.width}x{image.height} px, {type(self).__name__} needs {self.size} on the short side'
        if self.too_small == 'drop':
            raise BadImage(None, f'too small: {reason}')
        if self.too_small == 'error':
            raise SettingError(f"{reason}: use larger pictures, a smaller size, or too_small='upsample' or 'drop'")
        return True

    def _large_enough(self, image):
        """The picture, its short side brought up to ``size`` if it is below."""
        if not self._must_enlarge(image):
            return image
        scaled = self._scaled(image.size).cut(image)
        scaled.info[_UPSAMPLED] = True
        return scaled

    def _scaled(self, size):
        """`Region`, all of a picture of ``size``, that brings the short side to ours; the long one in proportion."""
        width, height = (max(self.size, round(side * (self.size / min(size)))) for side in size)
        if width * height > MAX_PIXELS:  # a line of 1x60000 px would grow to 63 gigapixels at 1024
            raise BadImage(None, f'{size[0]}x{size[1]} px would become {width}x{height}, more than {MAX_PIXELS} pixels')
        return Region((0, 0, *size), (width, height))

    def _crop(self, image, left, top):
        return image.crop((left, top, left + self.size, top + self.size))


@TRANSFORMS.register_module()
class ResizeShortSide(_Sized):
    """Short side to exactly ``size`` px, the long side in proportion, rounded."""

    def region(self, size):
        """`Region` of a picture of ``size`` (width, height) that is larger than needed, else None."""
        return self._scaled(size) if min(size) > self.size else None

    def __call__(self, image):
        image = self._large_enough(image)
        region = self.region(image.size)
        return image if region is None else region.cut(image)


@TRANSFORMS.register_module()
class CenterCrop(_Sized):
    """``size`` x ``size`` px from the middle; an odd margin leaves its extra pixel right and below."""

    def __call__(self, image):
        image = self._large_enough(image)
        return self._crop(image, (image.width - self.size) // 2, (image.height - self.size) // 2)


@TRANSFORMS.register_module()
class RandomCrop(_Sized):
    """``size`` x ``size`` px from anywhere, every place as likely, of the picture or of a random scale of it.

    Args:
        scale (tuple[float, float]): bounds of the factor, log-uniform: halving is as likely as doubling. Only the
            crop's region is resized. A factor that would leave the short side below ``size`` is raised to fit.
    """

    def __init__(self, size: int, scale: tuple | None = None, too_small='upsample'):
        super().__init__(size, too_small)
        if scale is not None and not (isinstance(scale, (list, tuple)) and len(scale) == 2
                                      and all(map(is_number, scale)) and 0 < scale[0] <= scale[1] < float('inf')):
            raise SettingError(f'RandomCrop: scale={scale!r}: use two factors, 0 < low <= high, such as (0.5, 1)')
        self.scale = scale

    def region(self, size):
        """A random `Region` of a picture of ``size`` (width, height); None without ``scale``, or if it is too small."""
        if self.scale is None or min(size) < self.size:
            return None
        low, high = self.scale
        factor, *place = torch.rand(3).tolist()
        edge = min(self.size / (low * (high / low) ** factor), *size)
        left, top = (share * (side - edge) for share, side in zip(place, size, strict=True))
        return Region((left, top, left + edge, top + edge), (self.size, self.size))

    def __call__(self, image):
        image = self._large_enough(image)
        region = self.region(image.size)
        if region is not None:
            return region.cut(image)
        left, top = (int(torch.randint(side - self.size + 1, ())) for side in image.size)
        return self._crop(image, left, top)


@TRANSFORMS.register_module()
class RandomFlip:
    """Left and right exchanged with ``probability``."""

    def __init__(self, probability=0.5):
        if not is_number(probability, 0, 1):
            raise SettingError(f'RandomFlip: probability {probability!r}: use 0 to 1')
        self.probability = probability

    def __call__(self, image):
        flip = float(torch.rand(())) < self.probability
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
