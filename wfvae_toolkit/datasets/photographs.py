"""Separate photographs from drawings and screenshots, and find duplicates."""

from typing import NamedTuple

import numpy as np
from PIL import Image

SAME = 0.1  # two pictures count as the same up to this share of differing bits


class PhotographRule(NamedTuple):
    """Limits within which a picture counts as a photograph, measured with the short side at 512 px or less.

    Drawings and screenshots have exactly flat areas, few colours, and most of their contrast in a few outlines. Cut-out
    objects have transparent pixels.
    """

    min_side: int = 256  # px, before resizing
    max_aspect: float = 2.6  # long side by short side
    max_transparent: float = 0.01  # share of pixels
    max_flat: float = 0.3  # share of 8 x 8 blocks whose brightness is within 1 of 255
    min_colours: int = 100  # of 15 bits, in the picture reduced to 64 x 64
    max_outline: float = 0.8  # share of the horizontal brightness steps that the strongest 5 % of them hold

    def objection(self, image):
        """The limit that a PIL image does not meet, or '' for a photograph."""
        if min(image.size) < self.min_side:
            return 'small'
        if max(image.size) > self.max_aspect * min(image.size):
            return 'aspect'
        if 'A' in image.getbands() or 'transparency' in image.info:
            alpha = np.asarray(image.convert('RGBA').getchannel('A'))
            if (alpha < 250).mean() > self.max_transparent:
                return 'transparent'
        image = shrink(image.convert('RGB'), 512)
        grey = np.asarray(image.convert('L')).astype(int)
        if flat_share(grey) > self.max_flat:
            return 'flat'
        if count_colours(image) < self.min_colours:
            return 'colours'
        return 'outline' if outline_share(grey) > self.max_outline else ''


def flat_share(grey):
    """(H, W) of 0..255 -> share of 8 x 8 blocks whose values differ by at most 1."""
    height, width = (side // 8 * 8 for side in grey.shape)
    blocks = grey[:height, :width].reshape(height // 8, 8, width // 8, 8)
    return float((blocks.max((1, 3)) - blocks.min((1, 3)) <= 1).mean())


def outline_share(grey):
    """(H, W) -> share of the sum of steps between horizontal neighbours that the largest 5 % of them make up."""
    steps = np.sort(np.abs(np.diff(grey, axis=1)).ravel())
    return float(steps[-(len(steps) // 20):].sum() / max(steps.sum(), 1))


def count_colours(image):
    """Number of different colours, at 5 bits per channel, in an RGB picture reduced to 64 x 64."""
    pixels = np.asarray(image.resize((64, 64), Image.Resampling.BOX)).astype(int) >> 3
    return len(np.unique(pixels @ (1024, 32, 1)))


def shrink(image, short_side):
    """The picture with its short side reduced to ``short_side`` px by Lanczos; a smaller one is returned unchanged."""
    factor = short_side / min(image.size)
    if factor >= 1:
        return image
    return image.resize([round(side * factor) for side in image.size], Image.Resampling.LANCZOS)


def difference_hash(image):
    """RGB picture -> (256,) bool: whether brightness increases to the right, on a grid of 16 x 16.

    Resizing, compression and small edits change few bits. Two different pictures differ in about half of them.
    """
    grey = np.asarray(image.convert('L').resize((17, 16), Image.Resampling.BOX)).astype(int)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


class SeenPictures:
    """The hashes of all pictures that were added."""

    def __init__(self):
        self._hashes = np.zeros((0, 256), dtype=bool)
        self._names = []

    def find(self, image):
        """Name of an earlier picture that equals this one or its mirror image; None if there is none."""
        for view in (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
            distances = (self._hashes != difference_hash(view)).mean(1)
            if len(distances) and distances.min() <= SAME:
                return self._names[int(distances.argmin())]
        return None

    def add(self, name, image):
        self._hashes = np.concatenate([self._hashes, difference_hash(image)[None]])
        self._names.append(name)
