"""Config of a dataloader -> DataLoader that gives `Batch`."""

import inspect
import itertools
import logging
from collections import Counter
from dataclasses import dataclass, field, fields, replace

import torch

from ..utils import distributed
from ..utils.device import default_device, pins_memory
from ..utils.errors import SettingError, UnknownSetting, is_number, located
from .bad_files import BadFile
from .base import build_dataset
from .extras import batch_extras, map_tensors, stack_extras
from .image_files import say_remarks
from .sampler import PositionSampler, SequentialSampler
from .worker_watch import WatchedLoader

TIMEOUT_S = 600


@dataclass
class Batch:
    """Pictures with their names, seeds and extra fields; row i of every list belongs to picture i.

    A file that cannot be used has no row, and is listed in ``bad``.
    """

    # uint8 (B, 3, H, W); in evaluation a list of (3, H, W), uint8 or, prepared by a protocol, float32 in [-1, 1]
    images: torch.Tensor | list[torch.Tensor]
    paths: list[str]
    indices: list[int]
    positions: list[int]
    seeds: list[int]
    bad: list[BadFile]
    upsampled: int  # number of pictures that a transform had to enlarge
    profiles: Counter = field(default_factory=Counter)  # `Sample.profile` -> pictures
    extras: dict = field(default_factory=dict)  # name -> tensor with a row per picture, or a list; see `extras`

    def __len__(self):
        return len(self.images)

    def groups(self):
        """Yield batches with ``images`` (b, 3, H, W), in order: one for each run of pictures of equal size.

        Together they hold every row once. ``bad``, ``upsampled`` and ``profiles`` are empty in them, so that nothing is
        counted twice.
        """
        start = 0
        for _, run in itertools.groupby(self.images, key=lambda image: image.shape):
            images = list(run)
            rows = slice(start, start + len(images))
            paths = self.paths[rows]
            extras = stack_extras({name: list(values[rows]) for name, values in self.extras.items()}, paths)
            yield Batch(torch.stack(images), paths, self.indices[rows], self.positions[rows], self.seeds[rows], bad=[],
                        upsampled=0, extras=extras)
            start = rows.stop

    def pin_memory(self):
        """A copy in pinned memory; the DataLoader calls this where ``pin_memory`` is set."""
        pinned = map_tensors(torch.Tensor.pin_memory, {'images': self.images, **self.extras})
        return replace(self, images=pinned.pop('images'), extras=pinned)


class PictureCounts:
    """Numbers of pictures that were enlarged, or have a colour profile other than sRGB, summed over batches.

    Attributes:
        pictures (int): all pictures.
        enlarged (int): those that a transform enlarged.
        profiles (Counter): `Sample.profile` -> number of pictures.
    """

    def __init__(self):
        self.pictures = self.enlarged = 0
        self.profiles = Counter()

    def add(self, batch):
        """Add the numbers of a `Batch`."""
        self.pictures += len(batch)
        self.enlarged += batch.upsampled
        self.profiles.update(batch.profiles)

    def of_all_ranks(self):
        """The sum of `PictureCounts` over all ranks; every rank must call it."""
        total = PictureCounts()
        for counts in distributed.gather(self):
            total.pictures += counts.pictures
            total.enlarged += counts.enlarged
            total.profiles.update(counts.profiles)
        return total

    def say(self, say=None):
        """Log these numbers once for all ranks; every rank must call it.

        Args:
            say (callable): called with each line; by default the logger ``wfvae_toolkit`` warns.
        """
        total = self.of_all_ranks()
        lines = [f'{count} of {total.pictures} pictures have the colour profile {profile}'
                 for profile, count in sorted(total.profiles.items())]
        if total.enlarged:
            lines.insert(0, f'{total.enlarged} of {total.pictures} pictures were enlarged to the size that the '
                            "pipeline needs; a transform's too_small decides")
        if distributed.is_main():
            for line in lines:
                (say or logging.getLogger('wfvae_toolkit').warning)(line)

    def protocol(self):
        """Entries of a protocol, a dict of str."""
        profiles = ', '.join(f'{count} {profile}' for profile, count in sorted(self.profiles.items()))
        return {'enlarged': f'{self.enlarged} of {self.pictures} pictures, to the size that the pipeline needs',
                'colour_profiles': profiles or 'all pictures are sRGB'}


@dataclass
class LoaderSettings:
    """Settings of a dataloader; ``prefetch_factor``, ``persistent_workers`` and ``timeout_s`` are about workers."""

    batch_size: int  # pictures per micro-batch and rank
    dataset: dict
    num_workers: int = 0  # worker processes; 0 reads in the main process
    shuffle: bool | None = None  # None: in training only
    pin_memory: bool = False  # has an effect where there is a GPU
    prefetch_factor: int | None = None  # batches that each worker reads ahead; None: PyTorch's 2
    persistent_workers: bool = False
    timeout_s: float = TIMEOUT_S  # wait for a batch; after it the workers count as hung. 0 waits for ever
    max_images: int | None = None  # use only so many, from the start of the dataset

    def __post_init__(self):
        if not isinstance(self.dataset, dict):
            raise UnknownSetting(f"dataset={self.dataset!r}: use dict(type='ImageFolder', data_root=...)")
        for name, low, otherwise in (('batch_size', 1, ''), ('num_workers', 0, ''),
                                     ('prefetch_factor', 1, ', or None'), ('max_images', 1, ', or None for all')):
            value = getattr(self, name)
            if not (is_number(value, low, whole=True) or otherwise and value is None):
                raise SettingError(f'{name}={value!r}: use a whole number, at least {low}{otherwise}')
        if not is_number(self.timeout_s, 0):
            raise SettingError(f'timeout_s={self.timeout_s!r}: use seconds, such as 600; 0 waits for ever')
        for name in ('shuffle', 'pin_memory', 'persistent_workers'):
            value = getattr(self, name)
            if not (isinstance(value, bool) or name == 'shuffle' and value is None):
                raise SettingError(f'{name}={value!r}: True or False')


def build_dataloader(cfg, *, training, seed=0, rank=0, world_size=1, say=None, collate=None, accumulation=1,
                     size=None, dataset=None):
    """DataLoader of one rank: dataset, sampler and workers.

    In training the loader never ends. To resume, call ``loader.sampler.set_position(consumed)`` before iterating. In
    evaluation the ranks together give each sample once, and no other picture takes the place of a bad file. Iterating
    does not change the state of the global random generators.

    Args:
        cfg (dict): see `LoaderSettings`.
        training (bool): endless batches of one size, or one pass.
        seed (int): decides order and augmentation in training.
        rank, world_size (int): this process, and the number of processes that share the samples.
        say (callable): called with lines on files that are not used; see `say_remarks`.
        collate (callable): list of `Sample` -> what the loader gives; None: a `Batch`. It runs in the workers.
        accumulation (int): batches of every rank that make an update; `AspectBuckets` gives them one size.
        size (int): edge in px of the crops, in place of the dataset's; see `ImageDataset.set_size`.
        dataset (ImageDataset): built already, in place of ``cfg['dataset']``; its remarks are not logged again.

    Raises:
        UnknownSetting: a setting is unknown or missing.
        SettingError: a setting does not fit evaluation.
        WorkerLost: while iterating, a worker died, or no batch came for ``timeout_s``; the message names the sample.
    """
    with located('train_dataloader' if training else 'val_dataloader'):
        settings = _settings(cfg)
        is_new = dataset is None
        dataset = _build_dataset(settings.dataset, training) if is_new else dataset
        if settings.num_workers and 0 < settings.timeout_s <= getattr(dataset, 'deadline_s', 0):
            raise SettingError(f'dataset.remote: deadline_s={dataset.deadline_s:g} would never count, because the '
                               f'workers count as hung after timeout_s={settings.timeout_s:g}: raise timeout_s')
    if size is not None:
        with located('train_cfg.stages'):
            set_size(dataset, size)
    if is_new:
        say_remarks(dataset, say)
    length = min(len(dataset), settings.max_images or len(dataset))
    if training:
        sampler = _training_sampler(dataset, length, seed, settings, rank, world_size, accumulation)
    elif settings.shuffle:
        raise SettingError('shuffle=True: evaluation keeps the order of the dataset; leave shuffle out')
    else:
        sampler = SequentialSampler(length, rank, world_size)
    workers = {}
    if settings.num_workers:
        workers = {'prefetch_factor': settings.prefetch_factor, 'persistent_workers': settings.persistent_workers,
                   'timeout': settings.timeout_s}
    # Without a generator of its own the loader would draw seeds for its workers from the global one.
    return WatchedLoader(dataset, settings.batch_size, sampler=sampler, num_workers=settings.num_workers,
                         collate_fn=collate or (collate_training if training else collate_evaluation),
                         pin_memory=settings.pin_memory and pins_memory(default_device()),
                         generator=torch.Generator().manual_seed(seed), **workers)


def set_size(dataset, size):
    """Let a dataset crop to ``size`` px; SettingError if it cannot."""
    if not hasattr(dataset, 'set_size'):
        raise SettingError(f'size={size}: {type(dataset).__name__} has no method set_size(size)')
    dataset.set_size(size)


def _training_sampler(dataset, length, seed, settings, rank, world_size, accumulation):
    shuffle, batch = settings.shuffle is not False, 1
    if hasattr(dataset, 'batch_order'):
        batch = accumulation * settings.batch_size * world_size
        order = dataset.batch_order(length, seed, shuffle, batch)
    else:
        order = dataset.order(length, seed, shuffle)
    return PositionSampler(length, seed, shuffle, rank, world_size, order, batch)


def load_batches(dataset, batches, num_workers=0, collate=None):
    """Loader of given batches, for evaluation: bad files are reported in their `Batch`, and not replaced.

    Args:
        dataset (ImageDataset): its ``prepare_evaluation`` is called.
        batches (iterable of list of `SampleKey` or int): has a length; such as a `BlockSampler`.
        num_workers (int): 0 reads in the main process.
        collate (callable): see `build_dataloader`.

    Raises, while iterating:
        WorkerLost: see `build_dataloader`.
    """
    dataset.prepare_evaluation()
    return WatchedLoader(dataset, batch_sampler=batches, num_workers=num_workers,
                         collate_fn=collate or collate_evaluation,
                         timeout=TIMEOUT_S if num_workers else 0, generator=torch.Generator())


def collate_training(samples):
    """list of `Sample` -> `Batch` with one tensor; SettingError where sizes or extra fields differ."""
    batch = collate_evaluation(samples)
    first = batch.images[0]
    for path, image in zip(batch.paths, batch.images, strict=True):
        if image.shape != first.shape:
            raise SettingError(f'pictures of two sizes in a training batch: {batch.paths[0]} has {_size(first)} and '
                               f"{path} {_size(image)}; end the pipeline with a crop, such as dict(type='CenterCrop', "
                               f'size={min(*first.shape[1:], *image.shape[1:])})')
    return replace(batch, images=torch.stack(batch.images), extras=stack_extras(batch.extras, batch.paths))


def collate_evaluation(samples):
    """list of `Sample` -> `Batch` with a list of tensors of any sizes; see `Batch.groups`."""
    good = [sample for sample in samples if sample.image is not None]
    return Batch(
        images=[sample.image for sample in good],
        paths=[sample.path for sample in good],
        indices=[sample.index for sample in good],
        positions=[sample.position for sample in good],
        seeds=[sample.seed for sample in good],
        bad=[bad for sample in samples for bad in sample.bad],
        upsampled=sum(sample.upsampled for sample in good),
        profiles=Counter(sample.profile for sample in good if sample.profile),
        extras=batch_extras(good))


def _settings(cfg):
    if not isinstance(cfg, dict):
        raise UnknownSetting(f"{cfg!r}: use dict(batch_size=4, dataset=dict(type='ImageFolder', data_root=...))")
    try:
        inspect.signature(LoaderSettings).bind(**cfg)
    except TypeError as error:
        names = [field.name for field in fields(LoaderSettings)]
        raise UnknownSetting(f'dataloader: {error}; its settings are {names}') from None
    return LoaderSettings(**cfg)


def _build_dataset(cfg, training):
    if not training and cfg.get('on_bad', 'report') != 'report':
        raise SettingError(f"on_bad={cfg['on_bad']!r}: evaluation never substitutes; leave it out or use 'report'")
    with located('dataset'):
        dataset = build_dataset(cfg, option=f'{"train" if training else "val"}_dataloader.dataset.data_root')
        if not training:
            dataset.prepare_evaluation()
    return dataset


def _size(image):
    return f'{image.shape[2]}x{image.shape[1]} px'
