"""Pictures that a program draws, so that every command runs without data."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..registry import DATASETS
from ..utils.errors import SettingError, is_number
from ..utils.seeding import mix_seed
from .base import ImageDataset
from .transforms import RandomFlip

OVERSAMPLING = 3  # shapes are drawn at this many times their size and reduced: their edges are antialiased


@DATASETS.register_module()
class SyntheticImages(ImageDataset):
    """Drawn pictures of ``size`` x ``size`` px, for smoke tests, benchmarks and bug reports, or as part of a mixture.

    Picture i is a function of ``seed``, i, ``size`` and ``kinds``; ``length`` does not change it. It is drawn only by
    operations that every processor rounds in the same way. It is therefore equal on every machine with the same
    versions of Pillow, its FreeType, and NumPy.

    Args:
        length (int): number of pictures.
        size (int): edge in px.
        seed (int): 0 or more; other seeds give other pictures.
        kinds (dict[str, float]): kind -> weight, of which only the ratios count; None removes a kind that a config
            inherits. By default all of these have weight 1: 'texture' (noise of all scales, waves or cells),
            'gradient' (between the corners, or from a centre), 'edges' (polygons, ellipses and lines), 'text' (lines
            in the font of Pillow, 9 to 40 px).
        pipeline, cache_mib: see `ImageDataset`.

    Raises:
        SettingError: a setting is none of these.
    """

    def __init__(self, length=1000, size=256, seed=0, kinds=None, pipeline=(), cache_mib=0):
        super().__init__(pipeline=pipeline, cache_mib=cache_mib)
        for name, value, low in (('length', length, 1), ('size', size, 8), ('seed', seed, 0)):
            if not is_number(value, low, whole=True):
                raise SettingError(f'SyntheticImages: {name}={value!r}: use a whole number, at least {low}')
        if not isinstance(kinds, (dict, type(None))):
            raise SettingError(f'SyntheticImages: kinds={kinds!r}: use a dict, such as dict(texture=2, text=1)')
        kinds = dict.fromkeys(PAINTERS, 1) if kinds is None else kinds
        kinds = {kind: weight for kind, weight in kinds.items() if weight is not None}
        if not (kinds and kinds.keys() <= PAINTERS.keys() and all(is_number(w, 1e-9, 1e9) for w in kinds.values())):
            raise SettingError(f'SyntheticImages: kinds={kinds!r}: use positive weights of {", ".join(PAINTERS)}, such '
                               'as dict(texture=2, text=1)')
        self.length = length
        self.size = size
        self.seed = seed
        # In a fixed order, so that the order in a config has no effect.
        self.kinds = {kind: kinds[kind] for kind in PAINTERS if kind in kinds}

    def __len__(self):
        return self.length

    def path(self, index):
        """Name in reports, such as ``000012_text.png``; there is no such file."""
        return f'{index:06}_{self._start(index)[0]}.png'

    def read(self, index):
        """PIL image in RGB."""
        kind, rng = self._start(index)
        return PAINTERS[kind](rng, self.size)

    def crop_size(self):
        """Edge in px of every picture, None if a transform of a plug-in decides it."""
        flips = all(isinstance(transform, RandomFlip) for transform in self.pipeline)
        return self.size if flips else super().crop_size()

    def _start(self, index):
        """Kind of a picture, and the generator of the numbers that draw it."""
        rng = np.random.default_rng(mix_seed('made-up picture', self.seed, index))
        kinds = list(self.kinds)
        bounds = np.cumsum(list(self.kinds.values()))
        return kinds[min(int(np.searchsorted(bounds, rng.random() * bounds[-1], 'right')), len(kinds) - 1)], rng


def paint_texture(rng, size):
    """Two or three colours mixed by noise of all scales, by waves bent by such noise, or by cells."""
    height = _noise(rng, size)
    y, x = np.mgrid[:size, :size]
    kind = rng.integers(3)
    if kind == 1:
        direction = rng.uniform(-1, 1, 2) * rng.uniform(4, max(5, size / 6))
        phase = (x * direction[0] + y * direction[1]) / size + height * rng.uniform(0, 6)
        height = _smooth(np.abs(phase % 2 - 1))
    elif kind == 2:
        height = 0.7 * _cells(rng, size) + 0.3 * height
    grain = rng.uniform(0, 12) * (rng.random((size, size, 1)) - 0.5)
    return _to_image(_mix(rng.uniform(0, 255, (rng.integers(2, 4), 3)), height) + grain)


def paint_gradient(rng, size):
    """Colours between the four corners, or from a centre to the farthest corner."""
    y, x = np.mgrid[:size, :size] / (size - 1)
    if rng.random() < 0.5:
        corners = rng.uniform(0, 255, (2, 2, 3))
        x, y = x[..., None], y[..., None]
        top, bottom = (row[0] + (row[1] - row[0]) * x for row in corners)
        return _to_image(top + (bottom - top) * y)
    centre = rng.uniform(0, 1, 2)
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
    return _to_image(_mix(rng.uniform(0, 255, (3, 3)), distance / distance.max()))


def paint_edges(rng, size):
    """Some ten polygons, ellipses and lines over a plain colour, antialiased."""
    wide = size * OVERSAMPLING
    image = Image.new('RGB', (wide, wide), _colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(6, 16)):
        colour, kind = _colour(rng), rng.integers(3)
        if kind == 0:
            corners = rng.integers(0, wide, (rng.integers(3, 6), 2))
            draw.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
        elif kind == 1:
            left, top, width, height = rng.integers(1, wide, 4).tolist()
            draw.ellipse((left, top, left + width // 2, top + height // 2), fill=colour)
        else:
            ends = rng.integers(0, wide, 4).tolist()
            draw.line(ends, fill=colour, width=int(rng.integers(1, max(2, wide // 40))))
    return image.reduce(OVERSAMPLING)


def paint_text(rng, size):
    """Lines of made-up words, of one font size and colour on a plain background that differs clearly in brightness."""
    dark, light = _colour(rng, 0, 90), _colour(rng, 165, 255)
    ink, paper = (dark, light) if rng.random() < 0.7 else (light, dark)
    image = Image.new('RGB', (size, size), paper)
    draw = ImageDraw.Draw(image)
    margin = int(rng.integers(0, max(1, size // 12)))
    top = margin
    while top < size:
        # Basic layout: libraqm, where installed, could place letters differently.
        edge = int(rng.integers(9, 41))
        font = ImageFont.load_default(edge).font_variant(layout_engine=ImageFont.Layout.BASIC)
        for _ in range(rng.integers(1, 6)):
            line = ' '.join(_word(rng) for _ in range(2 * size // (edge * 2) + 1))
            draw.text((margin, top), line, ink, font)
            top += edge * 5 // 4
    return image


PAINTERS = {'texture': paint_texture, 'gradient': paint_gradient, 'edges': paint_edges, 'text': paint_text}


def _noise(rng, size):
    """(size, size) in [0, 1]: sum of random values on grids of 2, 4, 8, ... points; finer grids have less weight."""
    total, weight, persistence = np.zeros((size, size)), 1.0, rng.uniform(0.4, 0.9)
    points = 2
    while points < size:
        grid = Image.fromarray(rng.integers(0, 256, (points, points), dtype=np.uint8))
        total += weight * np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))
        weight, points = weight * persistence, points * 2
    return (total - total.min()) / max(total.max() - total.min(), 1e-9)


def _cells(rng, size):
    """(size, size) in [0, 1]: distance to the nearest of some points."""
    y, x = np.mgrid[:size, :size]
    nearest = np.full((size, size), 2 * size**2)
    for left, top in rng.integers(0, size, (rng.integers(8, 40), 2)).tolist():
        nearest = np.minimum(nearest, (x - left) ** 2 + (y - top) ** 2)
    return np.sqrt(nearest / nearest.max())


def _mix(colours, share):
    """(n, 3) colours, (H, W) in [0, 1] -> (H, W, 3): from the first to the last, evenly."""
    place = np.clip(share, 0, 1) * (len(colours) - 1)
    below = np.minimum(place.astype(int), len(colours) - 2)
    rest = (place - below)[..., None]
    return colours[below] * (1 - rest) + colours[below + 1] * rest


def _smooth(share):
    """0 to 1 with slope 0 at both ends. A sine would do too, but its last digit depends on the processor."""
    return share * share * (3 - 2 * share)


def _colour(rng, low=0, high=255):
    return tuple(rng.integers(low, high + 1, 3).tolist())


def _word(rng):
    """One to ten letters, sometimes a number, with a capital, or with a punctuation mark."""
    kind, length = rng.random(), rng.integers(1, 11)
    if kind < 0.12:
        return str(rng.integers(0, 10**length))
    word = ''.join(chr(97 + letter) for letter in rng.integers(0, 26, length))
    word = word.upper() if kind < 0.2 else word.capitalize() if kind < 0.4 else word
    return word + '.,:;!?)-'[rng.integers(8)] if rng.random() < 0.15 else word


def _to_image(values):
    """(H, W, 3) in 0..255 -> PIL image in RGB."""
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
