"""What every dataset of pictures shares: reading, transforming, seeding and reporting a sample."""

import inspect
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..registry import DATASETS, TRANSFORMS, find_part
from ..utils.seeding import mix_seed, seeded
from .bad_files import BadFile
from .images import MAX_PIXELS, BadImage, load_rgb, rgb_colour, to_rgb
from .order import EpochOrder
from .transforms import was_upsampled

ON_BAD = ('substitute', 'report')


class SampleKey(NamedTuple):
    """What a sampler asks a dataset for."""

    index: int
    position: int  # in the global order of samples
    seed: int  # of everything random about this sample, 32 bits


def evaluation_key(index):
    """The key of a sample outside training: its position is its index, which also seeds it."""
    return SampleKey(index, index, mix_seed('sample', 0, index))


class SampleError(RuntimeError):
    """A sample failed for another reason than a bad file; the message names it."""


@dataclass
class Sample:
    """One picture and where it comes from."""

    image: torch.Tensor | None  # (3, H, W) uint8; None: could not be used, see `bad`
    path: str  # relative to the dataset's root, POSIX
    index: int  # of the picture shown: a substitute's own
    position: int
    seed: int
    bad: tuple[BadFile, ...] = ()  # met on the way to the picture
    upsampled: bool = False  # a transform had to enlarge it


class ImageDataset(Dataset):
    """Base of datasets; a child gives ``__len__`` and ``path(index)``, or ``load(index)``.

    Args:
        data_root (str | Path): folder that ``path(index)`` is relative to.
        pipeline (sequence of dict): transforms built through TRANSFORMS, each a callable from PIL
            image to PIL image. What they draw from torch's global generator (or numpy's, or
            random's) is a function of the sample's seed alone.
        on_bad (str): 'substitute' takes the next good index instead, and reports what it passed
            over; 'report' gives a sample without image.
        background (str | tuple): what alpha is composed over.
        max_pixels (int): larger pictures are bad files.
        cache_mib (float): decoded pictures kept in memory, the first ones that fit, a worker; for small sets.
    """

    def __init__(self, data_root='', pipeline=(), on_bad='substitute', background='white', max_pixels=MAX_PIXELS,
                 cache_mib=0):
        if on_bad not in ON_BAD:
            raise ValueError(f'on_bad={on_bad!r}: use one of {ON_BAD}')
        self.data_root = Path(data_root)
        self.pipeline = [TRANSFORMS.build(cfg) for cfg in pipeline]
        self.on_bad = on_bad
        self.background = rgb_colour(background)
        self.max_pixels = max_pixels
        self._cache, self._cache_bytes_left = {}, cache_mib * 2**20

    def __len__(self):
        raise NotImplementedError(f'{type(self).__name__} lacks __len__')

    def path(self, index):
        """Name of a sample in reports: its file relative to ``data_root``, POSIX. By default its index."""
        return str(index)

    def load(self, index):
        """PIL image at ``index``, of any mode; BadImage if it cannot be used."""
        return load_rgb(self.data_root / self.path(index), self.background, self.max_pixels)

    def order(self, length, seed, shuffle):
        """position -> index while training on the first ``length`` samples: `EpochOrder`, or a child's own."""
        return EpochOrder(length, (seed,), shuffle)

    def prepare_evaluation(self):
        """From now on each sample is its own file: a bad one is reported, never substituted."""
        self.on_bad = 'report'

    def __getitem__(self, key):
        """`SampleKey`, or an index for evaluation -> `Sample`.

        Raises:
            IndexError: no such index.
            SampleError: loading or transforming failed although the file is no bad one.
            RuntimeError: on_bad='substitute' and every file is bad.
        """
        length = len(self)
        index = key.index if isinstance(key, SampleKey) else operator.index(key)
        if not 0 <= index < length:
            raise IndexError(f'index {index}: there are {length} samples')
        key = key if isinstance(key, SampleKey) else evaluation_key(index)
        bad = []
        for step in range(length if self.on_bad == 'substitute' else 1):
            index = (key.index + step) % length
            try:
                image = self._transformed(index, key)
            except BadImage as error:
                bad.append(BadFile(self.path(index), error.reason))
            else:
                return Sample(_to_tensor(image), self.path(index), index, key.position, key.seed, tuple(bad),
                              was_upsampled(image))
        if self.on_bad == 'substitute':
            raise RuntimeError(f'none of the {length} files can be used; the first: {bad[0].path}: {bad[0].reason}')
        return Sample(None, self.path(key.index), key.index, key.position, key.seed, tuple(bad))

    def _load_rgb(self, index):
        image = self.load(index)
        if image.mode != 'RGB':
            image = to_rgb(image, self.background)
        size_bytes = 3 * image.width * image.height
        if size_bytes <= self._cache_bytes_left:
            self._cache_bytes_left -= size_bytes
            self._cache[index] = image
        return image

    def _transformed(self, index, key):
        try:
            with seeded(key.seed):
                image = self._cache.get(index) or self._load_rgb(index)
                for transform in self.pipeline:
                    image = transform(image)
            if not isinstance(image, Image.Image) or image.mode != 'RGB':
                raise TypeError(f'the pipeline gave {image!r}, not a PIL image in RGB')
        except BadImage:
            raise
        except Exception as error:
            raise SampleError(f'sample {index} ({self.path(index)}) at position {key.position}: '
                              f'{type(error).__name__}: {error}') from error
        return image


def build_dataset(cfg, option):
    """The dataset of a config; if it takes ``option=``, it is told which setting holds its root."""
    context = {}
    if isinstance(cfg.get('type'), str) and 'option' in inspect.signature(find_part(cfg['type'], DATASETS)).parameters:
        context['option'] = option
    return DATASETS.build(cfg, **context)


def _to_tensor(image):
    """PIL image in RGB -> (3, H, W) uint8."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
