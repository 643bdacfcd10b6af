"""Pictures of a report: thumbnails, originals, reconstructions, maps of errors and of differences between two runs."""

import contextlib
import hashlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.visualization.pictures import GAP

THUMBNAIL = 256  # px, longer side
ERROR_LEVELS = 48  # 8-bit levels at the end of the scale of an error map
DIFFERENCE_LEVELS = 24  # of a map of differences, to either side of 0
# Lossless WebP at its fastest: a fifth smaller than PNG, and faster to write.
_LOSSLESS = dict(format='WEBP', lossless=True, method=0, quality=0)


@dataclass
class Layers:
    """Files of one image in one run, relative to the report; ``width`` and ``height`` in px."""

    width: int
    height: int
    thumbnail: str
    original: str
    reconstruction: str
    error: str


def choose_pictures(entries, limit):
    """Paths of the images to show, at most ``limit``: those that most entries have a picture of come first."""
    kept = [entry.evaluation.pictures for entry in entries if entry.evaluation]
    paths = dict.fromkeys(path for pictures in kept for path in pictures)
    return sorted(paths, key=lambda path: -sum(path in pictures for pictures in kept))[:limit]


def pairs_to_map(numbers):
    """Pairs of entries whose differences are mapped: all of up to 3 entries, else the first with each other."""
    pairs = list(itertools.combinations(numbers, 2))
    return pairs if len(numbers) <= 3 else [pair for pair in pairs if pair[0] == numbers[0]]


class PictureWriter:
    """Writes pictures into ``folder/pictures``, named by their content, so that none is written twice.

    Args:
        folder (Path): of the report.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.used = set()
        (self.folder / 'pictures').mkdir(parents=True, exist_ok=True)

    def write_all(self, entries, paths):
        """-> {path: {'runs': {entry's number: Layers}, 'differences': {'0-1': file}}}, in the order of ``paths``."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
            written = executor.map(lambda path: self._write(entries, path), paths)
            return dict(zip(paths, progress(written, 'pictures written', len(paths)), strict=True))

    def _write(self, entries, path):
        sides, runs, differences = {}, {}, {}
        for number, entry in enumerate(entries):
            strip = entry.evaluation and entry.evaluation.pictures.get(path)
            if strip:
                sides[number] = split_strip(strip)
                runs[number] = self._layers(*sides[number])
        scored = [number for number, entry in enumerate(entries) if entry.evaluation]
        for first, second in pairs_to_map(scored):
            if first in sides and second in sides and np.array_equal(sides[first][0], sides[second][0]):
                differences[f'{first}-{second}'] = self._save(
                    'd', difference_map(sides[first][0], sides[first][1], sides[second][1]))
        return {'runs': runs, 'differences': differences}

    def _layers(self, original, reconstruction):
        height, width = original.shape[:2]
        return Layers(width, height, self._thumbnail(reconstruction), self._save('o', original),
                      self._save('r', reconstruction), self._save('e', error_map(original, reconstruction)))

    def _thumbnail(self, pixels):
        picture = Image.fromarray(pixels)
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        return self._save('t', np.asarray(picture), format='WEBP', quality=80)

    def snapshot(self, path):
        """Copy a picture of a run's pictures/ without loss; -> (file, width, height)."""
        with _opened(path) as picture:
            pixels = np.asarray(picture.convert('RGB'))
        return self._save('s', pixels), pixels.shape[1], pixels.shape[0]

    def channels(self, maps):
        """A row of channels.json -> dict of ``file``, ``width`` and ``height`` of a channel, ``shown``, ``of``."""
        with _opened(maps['file']) as picture:
            pixels = np.asarray(picture.convert('L'))
        height, rest = divmod(pixels.shape[0], maps['channels'])
        if rest:
            raise SettingError(f'{maps["file"]}: {pixels.shape[0]} px high, not {maps["channels"]} channels; remove '
                               'it, or score the run again')
        return {'file': self._save('c', pixels), 'width': pixels.shape[1], 'height': height,
                'shown': maps['channels'], 'of': maps['of']}

    def _save(self, kind, pixels, **options):
        digest = hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=10)
        digest.update(f'{pixels.shape}'.encode())
        name = f'pictures/{kind}{digest.hexdigest()}.webp'
        self.used.add(name)
        if not (self.folder / name).is_file():
            # Two threads may write the same original.
            temporary = self.folder / f'{name}.{os.urandom(4).hex()}.part'
            Image.fromarray(pixels).save(temporary, **(options or _LOSSLESS))
            os.replace(temporary, self.folder / name)
        return name

    def remove_unused(self):
        """Delete pictures of an earlier report in the same folder."""
        for path in (self.folder / 'pictures').glob('*.webp'):
            if f'pictures/{path.name}' not in self.used:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path):
    """A picture that one of our tools wrote; SettingError if it is damaged."""
    try:
        with Image.open(path) as picture:
            yield picture
    except OSError as error:
        raise SettingError(f'{path}: not readable ({error}); remove it, or score the run again') from None


def split_strip(path):
    """A side-by-side picture -> original and reconstruction, uint8 (H, W, 3)."""
    with _opened(path) as picture:
        pixels = np.asarray(picture.convert('RGB'))
    width, rest = divmod(pixels.shape[1] - 2 * GAP, 3)
    if rest or width < 1:
        raise SettingError(f'{path}: {pixels.shape[1]} px wide, not an input, a reconstruction and an error side by '
                           'side; remove it, or score the run again')
    return pixels[:, :width], pixels[:, width + GAP:2 * width + GAP]


def errors(original, reconstruction):
    """uint8 (H, W, 3) twice -> mean |difference| over channels, float32 (H, W), 8-bit levels."""
    return np.abs(original.astype(np.int16) - reconstruction).mean(2, dtype=np.float32)


def error_map(original, reconstruction):
    """Errors in colour, uint8 (H, W, 3); from 0 (black) to ERROR_LEVELS and more (pale yellow)."""
    levels = errors(original, reconstruction).round().clip(0, ERROR_LEVELS).astype(np.uint8)
    return _colours('inferno', ERROR_LEVELS + 1)[levels]


def difference_map(original, first, second):
    """Error of the second minus that of the first in colour, uint8 (H, W, 3).

    Blue: the second is nearer to the original. Red: the first is. White: both are as near.
    """
    change = errors(original, second) - errors(original, first)
    levels = change.round().clip(-DIFFERENCE_LEVELS, DIFFERENCE_LEVELS).astype(np.int16) + DIFFERENCE_LEVELS
    return _colours('RdBu_r', 2 * DIFFERENCE_LEVELS + 1)[levels]


def scale_colours():
    """Colours of both scales for the legend: name -> dict of ``low``, ``high``, ``colours`` (CSS, evenly spread)."""
    scales = {'error': ('inferno', 0, ERROR_LEVELS), 'difference': ('RdBu_r', -DIFFERENCE_LEVELS, DIFFERENCE_LEVELS)}
    return {kind: {'low': low, 'high': high,
                   'colours': [f'rgb({r}, {g}, {b})' for r, g, b in _colours(name, 9).tolist()]}
            for kind, (name, low, high) in scales.items()}


def _colours(name, count):
    """(count, 3) uint8 of a matplotlib colour map."""
    import matplotlib

    return (matplotlib.colormaps[name](np.linspace(0, 1, count))[:, :3] * 255).round().astype(np.uint8)
