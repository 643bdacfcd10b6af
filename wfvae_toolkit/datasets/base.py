"""The base of datasets of pictures: it reads, transforms and seeds a sample, and reports bad files."""

import contextlib
import inspect
import operator
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, features
from torch.utils.data import Dataset

from ..registry import DATASETS, TRANSFORMS, find_part
from ..utils.errors import MissingLibrary, SettingError, StorageError, UserError, is_number, located
from ..utils.seeding import mix_seed, seeded
from .bad_files import BadFile
from .extras import check_masks, read_extras
from .images import FOREIGN_PROFILE, MAX_PIXELS, BadImage, load_rgb, read_size, reason_of, rgb_colour
from .order import EpochOrder
from .reduced_jpeg import import_cv2, load_resized_with_masks
from .transforms import apply_transform, crop_of, crop_sizes_of, was_upsampled

ON_BAD = ('substitute', 'report')
PROTOCOL = ('__len__', '__getitem__', 'path', 'order', 'crop_size', 'prepare_evaluation')
DECODERS = ('exact', 'fast')


class SampleKey(NamedTuple):
    """What a sampler asks of a dataset."""

    index: int
    position: int  # in the global order of samples
    seed: int  # 32 bits; everything random about this sample follows from it


def evaluation_key(index):
    """`SampleKey` of a sample outside training: its position is its index, and its seed follows from it."""
    return SampleKey(index, index, mix_seed('sample', 0, index))


class SampleError(RuntimeError):
    """A sample failed, and not because its file is bad; the message names the sample."""


class NoUsableFile(UserError, RuntimeError):
    """Every file of a dataset is bad; the message names the first."""


@dataclass
class Sample:
    """One picture and where it comes from."""

    image: torch.Tensor | None  # (3, H, W) uint8; None if it cannot be used, see `bad`
    path: str  # relative to the dataset's root, POSIX
    index: int  # of this picture; that of the substitute where there is one
    position: int
    seed: int
    bad: tuple[BadFile, ...] = ()  # files that were tried before this one
    upsampled: bool = False  # whether a transform had to enlarge it
    profile: str | None = None  # its colour profile, if that is not sRGB, and what was done about it
    extras: dict = field(default_factory=dict)  # of `ImageDataset.extras`; a mask is a tensor (1, H, W) uint8


class ImageDataset(Dataset):
    """Base of datasets, and the protocol that training and evaluation use.

    A child needs ``__len__``, and `path` or `read`. It may override the rest:

    ``path(index)``          name in reports; relative to ``data_root`` if it is a file
    ``read(index)``          the picture: path of a file, its content as bytes, or a PIL image
    ``extras(index)``        extra fields, such as a mask; ``has_extras`` tells whether there are any
    ``order(length, seed, shuffle)``  function from position to index while training
    ``crop_size()``          edge in px of every picture after the transforms, or None
    ``crop_sizes()``         [(height, width)] in px where there are several, or one that is no square
    ``remarks()``            lines for a log on what is not used
    ``prepare_evaluation()``  called before evaluation: from then on a bad file is reported, not replaced
    ``dataset[key]``         `SampleKey` or index -> `Sample`; a child leaves this one alone

    A dataset that is no child of this class, such as `MixedDataset`, has ``__len__``, ``__getitem__``, ``path``,
    ``order``, ``crop_size`` and ``prepare_evaluation``.

    Args:
        data_root (str | Path): folder that ``path(index)`` is relative to; ``~`` is the home folder.
        pipeline (sequence of dict): transforms built through TRANSFORMS, each a callable from PIL image to PIL image;
            see `transforms`. They may draw from the global generators of torch, numpy and random, which the sample's
            seed sets.
        on_bad (str): 'substitute' takes the next good index in place of a bad file, and reports the bad one; 'report'
            gives a sample without image.
        background (str | tuple): colour that alpha is composed over.
        max_pixels (int): larger pictures are bad files.
        cache_mib (float): memory per worker for decoded pictures; it keeps the first ones that fit. For small sets.
        decoder (str): 'exact', or 'fast' for training: where the first transform resizes a JPEG to half its size or
            less, OpenCV decodes it at 1/2, 1/4 or 1/8, the smallest that is large enough, and the transform resizes
            the rest. On the 14 photographs of the demo that scikit-image ships, as JPEG of quality 90 (4:2:0), a resize
            to 1/2, 1/3, 1/4, 1/6 and 1/8 differs from the exact one by 1.3, 0.9, 1.6, 1.2 and 2.2 of 255 in the mean,
            and by 55, 18, 35, 19 and 41 at most. A JPEG that is grey, CMYK, turned by EXIF or incomplete, and any other
            format, is decoded exactly.
        convert_to_srgb (bool): convert the colours of files with another ICC profile, such as the Display P3 of phones,
            to sRGB. By default their numbers are read as they are. Both are counted. See `profiles`.

    Raises:
        SettingError: a setting has none of its values, or 'fast' cannot work.
        MissingLibrary: 'fast' without OpenCV, or ``convert_to_srgb`` with a Pillow that has no LittleCMS.
    """

    is_scanned = False  # whether all pictures under ``data_root`` belong to the dataset

    def __init__(self, data_root: str | Path = '', pipeline=(), on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact', convert_to_srgb=False):
        for name, value, choices in (('on_bad', on_bad, ON_BAD), ('decoder', decoder, DECODERS)):
            if value not in choices:
                raise SettingError(f'{name}={value!r}: use one of {choices}')
        if not isinstance(data_root, (str, Path)):
            raise SettingError(f'data_root={data_root!r}: use the path of a folder or a manifest')
        if not (is_number(max_pixels, 1) and is_number(cache_mib, 0)):
            raise SettingError(f'max_pixels={max_pixels!r}, cache_mib={cache_mib!r}: use numbers, at least 1 and 0')
        if not isinstance(convert_to_srgb, bool):
            raise SettingError(f'convert_to_srgb={convert_to_srgb!r}: True or False')
        if convert_to_srgb and not features.check('littlecms2'):
            raise MissingLibrary('convert_to_srgb=True: the installed Pillow was built without LittleCMS; install a '
                                 'wheel of Pillow, which has it')
        self.data_root = Path(data_root).expanduser()
        self.pipeline = []
        for number, cfg in enumerate(pipeline):
            with located(f'pipeline.{number}'):
                self.pipeline.append(TRANSFORMS.build(cfg))
        self.on_bad = on_bad
        self.background = rgb_colour(background)
        self.max_pixels = max_pixels
        self.convert_to_srgb = convert_to_srgb
        self._cache, self._cache_bytes_left = {}, cache_mib * 2**20
        self.decoder = decoder
        if decoder == 'fast':
            self._check_fast(cache_mib)

    def __len__(self):
        raise NotImplementedError(f'{type(self).__name__} lacks __len__')

    def path(self, index):
        """Name of a sample in reports: its file relative to ``data_root``, POSIX. The default is its index."""
        return str(index)

    def read(self, index):
        """The picture at ``index``: path of its file, content of the file as bytes, or a PIL image of any mode.

        By default the path ``data_root / path(index)``. All three are read by the same rules, see `load_rgb`. An
        OSError from here makes the sample a bad file.
        """
        return self.data_root / self.path(index)

    def file_state(self, index):
        """[size in bytes, time of change in ns] of the file that holds a picture; None where there is none."""
        try:
            status = os.stat(self.data_root / self.path(index))
        except (OSError, ValueError):
            return None
        return [status.st_size, status.st_mtime_ns]

    def picture_size(self, index):
        """(width, height) in px of a picture, upright, from its header; BadImage if that cannot be read."""
        return read_size(self.read(index), self.max_pixels)

    def load(self, index):
        """The picture at ``index``, upright and in RGB, by the rules of `load_rgb`; BadImage if it cannot be used.

        A child written for version 0.1 overrides this method in place of `read`. What it returns is read by the same
        rules.
        """
        return load_rgb(self.read(index), self.background, self.max_pixels, self.convert_to_srgb)

    def extras(self, index):
        """Fields beside the picture: name -> `Mask`, number, str, tensor, array or list of numbers.

        Losses find them in ``step.extras``, see `extras`. All samples of a dataset give the same names. A BadImage or
        an OSError from here makes the sample a bad file.
        """
        return {}

    @property
    def has_extras(self):
        """Whether samples have extra fields."""
        return type(self).extras is not ImageDataset.extras

    def remarks(self):
        """Lines for a log on files of ``data_root`` that are not used. The caller that builds the dataset logs them."""
        return []

    def order(self, length, seed, shuffle):
        """Function from position to index while training on the first ``length`` samples; by default `EpochOrder`."""
        return self.order_of(length, (seed,), shuffle)

    def order_of(self, length, words, shuffle):
        """`order` by several numbers in place of a seed; a mixture has one more for each of its sources."""
        return EpochOrder(length, words, shuffle)

    def crop_size(self):
        """Edge in px of every picture after the transforms, None if it depends on the file."""
        return crop_of(self.pipeline)

    def crop_sizes(self):
        """[(height, width)] in px that pictures can have after the transforms, [] if they depend on the file."""
        edge = self.crop_size()
        return crop_sizes_of(self.pipeline) if edge is None else [(edge, edge)]

    def set_size(self, size):
        """Crop to ``size`` px from now on, for a training that goes through several sizes.

        Raises:
            SettingError: the pipeline does not end in a crop, or has transforms of another size.
        """
        edge = self.crop_size()
        sized = [transform for transform in self.pipeline if hasattr(transform, 'size')]
        if edge is None or not sized or any(transform.size != edge for transform in sized):
            raise SettingError(f'size={size}: the size can be set where the pipeline ends in a crop and all its '
                               f'transforms have one size; here they have {[transform.size for transform in sized]}')
        for transform in sized:
            transform.size = size

    def prepare_evaluation(self):
        """From now on a bad file is reported, and no other picture takes its place.

        Raises:
            SettingError: decoder='fast', whose pixels are not exactly those of the file.
        """
        if self.decoder != 'exact':
            raise SettingError(f"decoder={self.decoder!r} is for training: evaluation needs decoder='exact'")
        self.on_bad = 'report'

    def __getitem__(self, key):
        """`SampleKey`, or an index for evaluation -> `Sample`.

        Raises:
            IndexError: no such index.
            SampleError: reading or a transform failed, and the file is not a bad one.
            SettingError: a transform refuses the picture (``too_small='error'``); the message names the picture.
            NoUsableFile: on_bad='substitute' and every file is bad.
            StorageError: data by URL cannot be reached, or have changed.
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
                content = self._transformed(index, key)
            except BadImage as error:
                bad.append(BadFile(self.path(index), error.reason))
            else:
                return Sample(path=self.path(index), index=index, position=key.position, seed=key.seed, bad=tuple(bad),
                              **content)
        if self.on_bad == 'substitute':
            raise NoUsableFile(f'none of the {length} files can be used; the first: {self.data_root / bad[0].path}: '
                               f'{bad[0].reason}')
        return Sample(None, self.path(key.index), key.index, key.position, key.seed, tuple(bad))

    def _check_fast(self, cache_mib):
        import_cv2()  # now, not in a worker
        first = self.pipeline[0] if self.pipeline else None
        if not hasattr(first, 'region') or getattr(first, 'scale', 1) is None:  # RandomCrop without it never shrinks
            raise SettingError("decoder='fast' shrinks while it decodes: begin the pipeline with ResizeShortSide, or "
                               'RandomCrop with a scale')
        if cache_mib:
            raise SettingError(f"cache_mib={cache_mib} keeps whole pictures, decoder='fast' decodes none: use only "
                               "one of them")
        if self._loads_itself():
            raise SettingError(f"decoder='fast' reads files: {type(self).__name__}.load decodes them itself; override "
                               'read in its place')

    def _loads_itself(self):
        return type(self).load is not ImageDataset.load

    def _begin(self, index, masks):
        """The picture in RGB, its masks, and the transforms that are still to be applied."""
        if self.decoder == 'fast':
            first, *rest = self.pipeline
            with _unreadable_is_bad():
                source = self.read(index)
            if isinstance(source, Image.Image):
                raise SettingError(f"decoder='fast' reads files: {type(self).__name__}.read gives decoded pictures; "
                                   'leave decoder out')
            return *load_resized_with_masks(source, masks, first, self.background, self.max_pixels,
                                            self.convert_to_srgb), rest
        image = self._cache.get(index) or self._load_rgb(index)
        check_masks(masks, image.size)
        return image, masks, self.pipeline

    def _load_rgb(self, index):
        with _unreadable_is_bad():
            image = self.load(index)
        if self._loads_itself():
            image = load_rgb(image, self.background, self.max_pixels, self.convert_to_srgb)
        size_bytes = 3 * image.width * image.height
        if size_bytes <= self._cache_bytes_left:
            self._cache_bytes_left -= size_bytes
            self._cache[index] = image
        return image

    def _transformed(self, index, key):
        """Fields of a `Sample` that come from the picture after all transforms, a dict."""
        try:
            with seeded(key.seed):
                with _unreadable_is_bad():
                    masks, others = read_extras(self.extras(index), self.max_pixels)
                image, masks, transforms = self._begin(index, masks)
                profile = image.info.get(FOREIGN_PROFILE)
                for transform in transforms:
                    image, masks = apply_transform(transform, image, masks)
            if not isinstance(image, Image.Image) or image.mode != 'RGB':
                raise TypeError(f'the pipeline gave {image!r}, not a PIL image in RGB')
            check_masks(masks, image.size)
        except (BadImage, StorageError):
            raise
        except UserError as error:
            raise SettingError(f'{self.path(index)}: {error}') from error
        except Exception as error:
            raise SampleError(f'sample {index} ({self.path(index)}) at position {key.position}: '
                              f'{type(error).__name__}: {error}') from error
        masks = {name: _to_tensor(mask) for name, mask in masks.items()}
        return dict(image=_to_tensor(image), upsampled=was_upsampled(image), profile=profile,
                    extras={**masks, **others})


@contextlib.contextmanager
def _unreadable_is_bad():
    """An OSError inside means that this sample alone cannot be read."""
    try:
        yield
    except UserError:  # such as MissingFile, which is an OSError too
        raise
    except OSError as error:
        raise BadImage(None, reason_of(error)) from error


def crop_sizes(dataset):
    """[(height, width)] in px that pictures of a dataset can have, [] if they depend on the file."""
    if hasattr(dataset, 'crop_sizes'):
        return dataset.crop_sizes()
    edge = dataset.crop_size()
    return [] if edge is None else [(edge, edge)]


def build_dataset(cfg, option):
    """The dataset of a config. If it takes ``option=``, that is the name of the setting that holds its root.

    Raises:
        SettingError: it is no child of `ImageDataset` and lacks a method of its protocol.
    """
    context = {}
    if isinstance(cfg.get('type'), str) and 'option' in inspect.signature(find_part(cfg['type'], DATASETS)).parameters:
        context['option'] = option
    dataset = DATASETS.build(cfg, **context)
    lacking = [name for name in PROTOCOL if not hasattr(dataset, name)]
    if lacking:
        raise SettingError(f'{type(dataset).__name__} lacks {", ".join(lacking)}: derive it from '
                           'wfvae_toolkit.datasets.ImageDataset, which has them')
    return dataset


def _to_tensor(image):
    """PIL image in RGB or L -> (3, H, W) or (1, H, W) uint8."""
    return torch.from_numpy(np.atleast_3d(np.asarray(image)).transpose(2, 0, 1).copy())
