"""PIL image -> PIL image; random numbers come from torch's global generator, which the sample's seed sets.

Resizing is bicubic and antialiased; a mask is resized by its nearest pixel. ``too_small`` says what happens to a
picture that is smaller than a transform needs: 'upsample' enlarges and counts it; 'drop' makes it a bad file; 'error'
stops.

A transform is a callable from PIL image to PIL image. Where samples have masks, it also says how it acts on them:

- ``with_masks(image, masks) -> (image, masks)`` does the same to both; ``masks`` is a dict of PIL images in mode L;
- ``moves_pixels = False`` says that every pixel stays in its place, as in a change of colours: masks are left alone.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from wfvae_toolkit.utils.errors import SettingError, is_number

from ..registry import TRANSFORMS
from .images import MAX_PIXELS, BadImage

TOO_SMALL = ('upsample', 'drop', 'error')
PLACES = ('random', 'center')
_UPSAMPLED = 'upsampled'  # in Image.info, which PIL copies from picture to picture


def apply_transform(transform, image, masks):
    """(image, {name: mask}) after a transform.

    Raises:
        SettingError: there are masks, and the transform does not say how it acts on them.
    """
    if not masks:
        return transform(image), {}
    if hasattr(transform, 'with_masks'):
        _check_overrides(type(transform))
        return transform.with_masks(image, masks)
    if getattr(transform, 'moves_pixels', True):
        raise SettingError(f'{type(transform).__name__} does not say what becomes of the mask {next(iter(masks))!r}: '
                           'give it a method with_masks(image, masks), or moves_pixels = False if it only changes '
                           'colours')
    return transform(image), masks


def _check_overrides(cls):
    """SettingError for a child that overrides ``__call__`` alone: the masks would not follow."""
    of_call, of_both = (next(place for place, kind in enumerate(cls.__mro__) if name in vars(kind))
                        for name in ('__call__', 'with_masks'))
    if of_call < of_both:
        raise SettingError(f'{cls.__name__} overrides __call__, and {cls.__mro__[of_both].__name__} with_masks: '
                           'override with_masks(image, masks), which samples with masks use')


def fixed_pipeline(resolution=None, crop=None):
    """Transforms of the tools' ``--resolution`` and ``--crop``: resize the short side, then cut out the centre, px.

    ``crop`` defaults to ``resolution``. Without both there are no transforms.
    """
    steps = [] if resolution is None else [dict(type='ResizeShortSide', size=resolution)]
    if resolution is not None or crop is not None:
        steps.append(dict(type='CenterCrop', size=resolution if crop is None else crop))
    return steps


def describe_pipeline(pipeline, converts_to_srgb=False):
    """One line for a protocol: the transforms, and whether colours are converted before them."""
    steps = [f'{step["type"]}({", ".join(f"{k}={v}" for k, v in step.items() if k != "type")})' for step in pipeline]
    return ('colours converted to sRGB, ' if converts_to_srgb else '') + (', '.join(steps) or 'none: whole images')


def was_upsampled(image):
    """Whether a transform had to enlarge the picture."""
    return image.info.get(_UPSAMPLED) is True


def crop_of(pipeline):
    """Edge in px of every picture that leaves built transforms, None where that depends on the picture."""
    last = _last_shaping(pipeline)
    return last.size if isinstance(last, (CenterCrop, RandomCrop)) else None


def crop_sizes_of(pipeline):
    """[(height, width)] in px that pictures can have after built transforms, [] where that depends on the picture."""
    edge = crop_of(pipeline)
    if edge is not None:
        return [(edge, edge)]
    last = _last_shaping(pipeline)
    return [size[::-1] for size in last.sizes] if isinstance(last, CropToSize) else []


def _last_shaping(pipeline):
    """The last built transform that may change the size of a picture, or None."""
    return next((transform for transform in reversed(pipeline) if not isinstance(transform, RandomFlip)), None)


def is_crop(transform):
    """Whether a built transform is one of ours that changes the size of a picture."""
    return isinstance(transform, (_Sized, CropToSize))


def kept_share(pictures, sizes):
    """Share of each picture that is left where it covers each size: (N, 2) and (S, 2), width and height -> (N, S)."""
    pictures, sizes = np.asarray(pictures, np.float64), np.asarray(sizes, np.float64)
    ratio = (pictures[:, :1] * sizes[:, 1]) / (pictures[:, 1:] * sizes[:, 0])
    return np.minimum(ratio, 1 / ratio)


def best_size(pictures, sizes, enlarge):
    """Number of the size that cuts least off each picture, (N,); -1 where each is larger than the picture.

    Args:
        pictures, sizes (array): (N, 2) and (S, 2), width and height in px.
        enlarge (bool): use the one that cuts least off such a picture too.
    """
    pictures, sizes = np.maximum(pictures, 1), np.asarray(sizes)
    kept = kept_share(pictures, sizes)
    fits = (pictures[:, None] >= sizes).all(2)
    best = np.where(fits, kept, -1.0).argmax(1)
    some = fits.any(1)
    return np.where(some, best, kept.argmax(1) if enlarge else -1)


class Region(NamedTuple):
    """A part of a picture, and the size that it is resized to."""

    box: tuple[float, float, float, float]  # left, top, right and bottom in px
    size: tuple[int, int]  # width and height that it gets, in px

    @property
    def shrinks(self):
        """Factor by which the sides shrink, the smaller of the two; below 1 they grow."""
        left, top, right, bottom = self.box
        return min((right - left) / self.size[0], (bottom - top) / self.size[1])

    def cut(self, image, reduction=1, resample=Image.Resampling.BICUBIC):
        """The region of a picture that was decoded at 1/``reduction`` of the size in which ``box`` is given."""
        left, top, right, bottom = self.box
        whole_pixels = all(isinstance(edge, int) for edge in self.box)
        if whole_pixels and reduction == 1 and (right - left, bottom - top) == self.size:
            return image.crop(self.box)
        return image.resize(self.size, resample, box=tuple(edge / reduction for edge in self.box))

    def cut_masks(self, masks):
        """{name: PIL image} -> the region of each, by the nearest pixel."""
        return {name: self.cut(mask, resample=Image.Resampling.NEAREST) for name, mask in masks.items()}


class _Sized:
    """A transform that needs ``size`` px on the short side, and cuts out a `Region` that a child chooses."""

    def __init__(self, size: int, too_small='upsample'):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise SettingError(f'{type(self).__name__}: size {size!r}: use a whole number of pixels from 1, '
                               'such as 256')
        if too_small not in TOO_SMALL:
            raise SettingError(f'{type(self).__name__}: too_small={too_small!r}: use one of {TOO_SMALL}')
        self.size = size
        self.too_small = too_small

    def __call__(self, image):
        return self.with_masks(image, {})[0]

    def with_masks(self, image, masks):
        """(image, {name: mask}) -> the same region of each."""
        if self._must_enlarge(image):
            whole = self._scaled(image.size)
            image, masks = whole.cut(image), whole.cut_masks(masks)
            image.info[_UPSAMPLED] = True
        region = self._choose(image.size)
        return (image, masks) if region is None else (region.cut(image), region.cut_masks(masks))

    def _choose(self, size):
        """`Region` of a picture of ``size`` (width, height) px that is large enough; None: all of it."""
        raise NotImplementedError

    def _must_enlarge(self, image):
        """Whether the picture is too small; raises where ``too_small`` is 'drop' or 'error'."""
        if min(image.size) >= self.size:
            return False
        reason = f'{image.width}x{image.height} px, {type(self).__name__} needs {self.size} on the short side'
        if self.too_small == 'drop':
            raise BadImage(None, f'too small: {reason}')
        if self.too_small == 'error':
            raise SettingError(f"{reason}: use larger pictures, a smaller size, or too_small='upsample' or 'drop'")
        return True

    def _scaled(self, size):
        """`Region` of a whole picture of ``size``, resized so that its short side is ours, in proportion."""
        width, height = (max(self.size, round(side * (self.size / min(size)))) for side in size)
        if width * height > MAX_PIXELS:  # a line of 1x60000 px would grow to 63 gigapixels at 1024
            raise BadImage(None, f'{size[0]}x{size[1]} px would become {width}x{height}, more than {MAX_PIXELS} pixels')
        return Region((0, 0, *size), (width, height))

    def _square(self, left, top):
        return Region((left, top, left + self.size, top + self.size), (self.size, self.size))


@TRANSFORMS.register_module()
class ResizeShortSide(_Sized):
    """Short side to exactly ``size`` px, the long side in proportion, rounded."""

    def region(self, size):
        """`Region` of a picture of ``size`` (width, height) that is larger than needed, else None."""
        return self._scaled(size) if min(size) > self.size else None

    _choose = region


@TRANSFORMS.register_module()
class CenterCrop(_Sized):
    """``size`` x ``size`` px from the middle; the odd pixel of an odd margin is cut off at the right and below."""

    def _choose(self, size):
        return self._square(*((side - self.size) // 2 for side in size))


@TRANSFORMS.register_module()
class RandomCrop(_Sized):
    """``size`` x ``size`` px from a random place, of the picture or of the picture at a random scale.

    Args:
        scale (tuple[float, float]): bounds of the factor, log-uniform: halving is as likely as doubling. Only the
            region of the crop is resized. A factor that would make the short side less than ``size`` is raised.
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

    def _choose(self, size):
        region = self.region(size)
        if region is not None:
            return region
        return self._square(*(int(torch.randint(side - self.size + 1, ())) for side in size))


@TRANSFORMS.register_module()
class CropToSize:
    """The size that cuts least off a picture: it is resized to cover that size, and what is over is cut off.

    Args:
        sizes (list): of (width, height) in px.
        place (str): 'random', or 'center' for equal margins.
        too_small (str): see `transforms`; a picture is too small if every size is larger than it.
    """

    def __init__(self, sizes: list, place='center', too_small='upsample'):
        if place not in PLACES:
            raise SettingError(f'CropToSize: place={place!r}: use one of {PLACES}')
        if too_small not in TOO_SMALL:
            raise SettingError(f'CropToSize: too_small={too_small!r}: use one of {TOO_SMALL}')
        if not (sizes and all(isinstance(pair, (list, tuple)) and len(pair) == 2
                              and all(is_number(side, 1, whole=True) for side in pair) for pair in sizes)):
            raise SettingError(f'CropToSize: sizes={sizes!r}: use a list such as [(1024, 1024), (1152, 896)]')
        self.sizes, self.place, self.too_small = [tuple(pair) for pair in sizes], place, too_small

    def region(self, size):
        """`Region` of a picture of ``size`` (width, height) px that is large enough, else None."""
        number = best_size([size], self.sizes, enlarge=False)[0]
        return None if number < 0 else self._cover(size, self.sizes[number])

    def __call__(self, image):
        return self.with_masks(image, {})[0]

    def with_masks(self, image, masks):
        """(image, {name: mask}) -> the same region of each."""
        region = self.region(image.size)
        if region is not None:
            return region.cut(image), region.cut_masks(masks)
        reason = f'{image.width}x{image.height} px, smaller than each of {len(self.sizes)} sizes'
        if self.too_small == 'drop':
            raise BadImage(None, f'too small: {reason}')
        if self.too_small == 'error':
            raise SettingError(f"{reason}: use larger pictures, smaller sizes, or too_small='upsample' or 'drop'")
        region = self._cover(image.size, self.sizes[best_size([image.size], self.sizes, enlarge=True)[0]])
        image, masks = region.cut(image), region.cut_masks(masks)
        image.info[_UPSAMPLED] = True
        return image, masks

    def _cover(self, size, target):
        scale = max(side / edge for side, edge in zip(target, size, strict=True))
        parts = target if scale == 1 else [min(side / scale, edge) for side, edge in zip(target, size, strict=True)]
        shares = torch.rand(2).tolist() if self.place == 'random' else (0.5, 0.5)
        margins = [edge - part for edge, part in zip(size, parts, strict=True)]
        if scale == 1:  # whole pixels: a part of one would blur the picture
            left, top = (int(share * (margin + (self.place == 'random')))
                         for share, margin in zip(shares, margins, strict=True))
        else:
            left, top = (share * margin for share, margin in zip(shares, margins, strict=True))
        return Region((left, top, left + parts[0], top + parts[1]), target)


@TRANSFORMS.register_module()
class RandomFlip:
    """Exchange left and right with ``probability``."""

    def __init__(self, probability=0.5):
        if not is_number(probability, 0, 1):
            raise SettingError(f'RandomFlip: probability {probability!r}: use 0 to 1')
        self.probability = probability

    def __call__(self, image):
        return self.with_masks(image, {})[0]

    def with_masks(self, image, masks):
        """(image, {name: mask}) -> all mirrored, or none."""
        if float(torch.rand(())) >= self.probability:
            return image, masks
        mirror = Image.Transpose.FLIP_LEFT_RIGHT
        return image.transpose(mirror), {name: mask.transpose(mirror) for name, mask in masks.items()}
