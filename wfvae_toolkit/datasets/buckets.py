"""Pictures of every aspect ratio in batches of one size each."""

import operator
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from ..registry import DATASETS
from ..utils.errors import SettingError, is_number
from .bad_files import BadFile
from .base import NoUsableFile, SampleKey, build_dataset, evaluation_key
from .mixed import MixedDataset
from .order import BucketOrder
from .picture_sizes import picture_sizes
from .transforms import best_size, is_crop, kept_share

TOO_SMALL = ('drop', 'upsample')
_RATIO_STEPS = 400  # bins of the ratio of width to height from 1:e^2 to e^2:1, where sizes are chosen


@DATASETS.register_module()
class AspectBuckets(Dataset):
    """A dataset for training whose batches have one of several sizes, all of about the same number of pixels.

    A picture belongs to the size that cuts least off it, and is resized to cover that size. All pictures of an update,
    over micro-batches and ranks, have one size. The sizes follow each other at random, each as often as its pictures
    are, see `BucketOrder`: no picture is left over, because the rest of a size opens its next batch.

    Args:
        dataset (dict): DATASETS config without a pipeline: a folder, a manifest, shards, a table or a mixture of them.
        size (int): edge in px of a square with the number of pixels.
        multiple_of (int): of which both sides of every size are multiples; the autoencoder's factor must divide it.
        buckets (int | list): the largest number of sizes that are chosen, so that least is cut off; or the sizes
            themselves, ``[(width, height), ...]`` in px.
        max_ratio (float): of the longer to the shorter side of the chosen sizes. Pictures beyond it are cut to it.
        too_small (str): 'drop' passes over pictures that are smaller than every size; 'upsample' enlarges and counts
            them.
        crop (str): 'random' or 'center'.
        pipeline (sequence of dict): transforms after the crop, none of which changes the size.
        sizes_cache (str | Path): a file that keeps the size of every picture. Without it every start reads all headers.
        option (str): setting of this dataset, followed by ``.data_root``, for messages.

    Raises:
        SettingError: a setting has none of these values, or no picture is left.
    """

    def __init__(self, dataset: dict, size=1024, multiple_of=32, buckets: int | list = 9, max_ratio=2.0,
                 too_small='drop', crop='random', pipeline=(), sizes_cache: str | Path | None = None,
                 option='train_dataloader.dataset.data_root'):
        if too_small not in TOO_SMALL:
            raise SettingError(f'too_small={too_small!r}: use one of {TOO_SMALL}')
        if 'pipeline' in dataset:
            raise SettingError('dataset.pipeline: AspectBuckets crops the pictures; give it the rest as its pipeline')
        self.too_small = too_small
        self._settings = dict(size=size, multiple_of=multiple_of, buckets=buckets, max_ratio=max_ratio)
        possible = allowed_sizes(**self._settings)
        crop = dict(type='CropToSize', sizes=possible, place=crop, too_small=too_small)
        self.dataset = build_dataset({**dataset, 'pipeline': [crop, *pipeline]},
                                     f'{option.removesuffix(".data_root")}.dataset.data_root')
        mixed = isinstance(self.dataset, MixedDataset)
        self._sources = self.dataset.datasets if mixed else {'': self.dataset}
        self._weights = self.dataset.weights if mixed else {'': 1}
        for name, source in self._sources.items():
            _check_source(name, source)
            source.on_bad = 'report'  # a substitute must have the same size: this class looks for it
        self._sizes = picture_sizes(self.dataset, sizes_cache)
        self._arrange(possible)

    def __len__(self):
        return len(self._order)

    def set_size(self, size):
        """From now on the sizes have the pixels of a square of ``size`` px; samples get other numbers.

        Raises:
            SettingError: the sizes were given one by one.
        """
        self._arrange(allowed_sizes(**resized(self._settings, size)))

    def path(self, index):
        return self.dataset.path(int(self._order[index]))

    def order(self, length, seed, shuffle):
        """`batch_order` of single pictures."""
        return self.batch_order(length, seed, shuffle, 1)

    def batch_order(self, length, seed, shuffle, images):
        """`BucketOrder` of updates of ``images`` pictures; SettingError for a part of the pictures."""
        if length != len(self):
            raise SettingError(f'max_images={length}: buckets have no first samples; leave max_images out in training')
        lengths = {f'{width}x{height}': dict(zip(self._sources, counts, strict=True))
                   for (width, height), counts in zip(self.sizes, self._counts.tolist(), strict=True)}
        return BucketOrder(lengths, self._weights, seed, images, shuffle)

    def crop_size(self):
        return None

    def crop_sizes(self):
        """(height, width) in px of every size of a picture."""
        return [(height, width) for width, height in self.sizes]

    def first_of(self, size):
        """Index of the first sample of a size, (height, width)."""
        return int(self._starts[self.crop_sizes().index(tuple(size))])

    @property
    def has_extras(self):
        """Whether samples have extra fields."""
        return getattr(self.dataset, 'has_extras', False)

    def prepare_evaluation(self):
        raise SettingError('AspectBuckets is for training: evaluation takes pictures of any size and ratio, so give '
                           'its dataset alone')

    def remarks(self):
        """Lines on pictures that are not used."""
        lines, total = getattr(self.dataset, 'remarks', list)(), len(self._sizes)
        for count, what in ((self.unreadable, 'have a header that cannot be read'),
                            (self.passed_over, "are smaller than every size (too_small='upsample' would use them)")):
            if count:
                lines.append(f'{count} of {total} pictures {what}; they are passed over')
        return lines

    @property
    def deadline_s(self):
        """Of the dataset, see `IndexedImages`."""
        return getattr(self.dataset, 'deadline_s', 0)

    def closing_remarks(self):
        """Lines of the dataset for the end of a training."""
        return getattr(self.dataset, 'closing_remarks', list)()

    def describe_sizes(self):
        """Lines for the log: the sizes, how many pictures each has, and what is cut off."""
        left_out = f', {self.passed_over} smaller ones are passed over' if self.passed_over else ''
        lines = [f'{len(self)} pictures in {len(self.sizes)} sizes{left_out}; on average {self._cut.mean():.1%} of a '
                 'picture is cut off']
        for number, (width, height) in enumerate(self.sizes):
            own = slice(self._starts[number], self._starts[number + 1])
            count, cut = own.stop - own.start, self._cut[own]
            lines.append(f'{width}x{height} px: {count} pictures ({count / len(self):.1%}), {cut.mean():.1%} is cut '
                         f'off, at most {cut.max():.1%}')
        return lines

    def __getitem__(self, key):
        """`SampleKey` -> `Sample`; a bad file is replaced by a picture of the same source and size."""
        index = key.index if isinstance(key, SampleKey) else operator.index(key)
        if not 0 <= index < len(self):
            raise IndexError(f'index {index}: there are {len(self)} samples')
        key = key if isinstance(key, SampleKey) else evaluation_key(index)
        block = int(np.searchsorted(self._blocks, index, 'right')) - 1
        first, end = self._blocks[block:block + 2].tolist()
        bad = []
        for step in range(end - first):
            place = first + (index - first + step) % (end - first)
            sample = self.dataset[key._replace(index=int(self._order[place]))]
            bad += sample.bad or self._of_other_size(sample, place)
            if not sample.bad and len(bad) == step:
                return replace(sample, index=place, bad=tuple(bad))
        raise NoUsableFile(f'none of the {end - first} pictures of one size can be used; the first: {bad[0].path}: '
                           f'{bad[0].reason}')

    def _of_other_size(self, sample, place):
        """[BadFile] of a picture whose file has another size now, else []."""
        width, height = self.sizes[int(np.searchsorted(self._starts, place, 'right')) - 1]
        found = tuple(sample.image.shape[1:])
        if found == (height, width):
            return []
        return [BadFile(sample.path, f'it becomes {found[1]}x{found[0]} px in place of {width}x{height}: its file has '
                                     'changed')]

    def _arrange(self, possible):
        """Choose the sizes and sort the pictures by them."""
        readable = self._sizes[:, 0] > 0
        wanted = self._settings['buckets']
        sizes = choose_sizes(possible, self._sizes[readable], wanted) if isinstance(wanted, int) else possible
        bucket = best_size(self._sizes, sizes, enlarge=self.too_small == 'upsample')
        bucket[~readable] = -1
        self.unreadable, self.passed_over = int((~readable).sum()), int((bucket[readable] < 0).sum())
        used = [number for number in range(len(sizes)) if (bucket == number).any()]
        if not used:
            raise SettingError('; '.join([f'no picture is left for size={possible[0]} and the like', *self.remarks()]))
        self.sizes = [sizes[number] for number in used]
        order = np.argsort(bucket, kind='stable')
        self._order = order[np.searchsorted(bucket[order], 0):]
        ends = np.cumsum([len(source) for source in self._sources.values()])
        source = np.searchsorted(ends, self._order, 'right')
        place = np.searchsorted(used, bucket[self._order])
        self._counts = np.zeros((len(used), len(ends)), np.int64)
        np.add.at(self._counts, (place, source), 1)
        self._blocks = np.concatenate([[0], np.cumsum(self._counts)])  # of one size and source each
        self._starts = np.concatenate([[0], np.cumsum(self._counts.sum(1))])
        shares = kept_share(self._sizes[self._order], self.sizes)
        self._cut = 1 - shares[np.arange(len(shares)), place]
        for dataset in self._sources.values():
            dataset.pipeline[0].sizes = self.sizes


def allowed_sizes(size, multiple_of, buckets, max_ratio):
    """[(width, height)] that `AspectBuckets` may choose, or those that ``buckets`` names, for settings of that class.

    Raises:
        SettingError: a setting is wrong.
    """
    for name, value in (('size', size), ('multiple_of', multiple_of)):
        if not is_number(value, 1, whole=True):
            raise SettingError(f'{name}={value!r}: use a whole number of px from 1')
    if isinstance(buckets, (list, tuple)):
        return _checked_sizes(buckets, multiple_of)
    if not is_number(buckets, 1, whole=True):
        raise SettingError(f'buckets={buckets!r}: use the largest number of sizes, or a list such as '
                           '[(1024, 1024), (1152, 896)]')
    if not is_number(max_ratio, 1):
        raise SettingError(f'max_ratio={max_ratio!r}: use a number from 1, such as 2')
    if size % multiple_of:
        raise SettingError(f'size={size}: use a multiple of multiple_of={multiple_of}')
    return possible_sizes(size, multiple_of, max_ratio)


def resized(settings, size):
    """Settings of `allowed_sizes` with another size; SettingError if the sizes were given one by one."""
    if not isinstance(settings['buckets'], int):
        raise SettingError('buckets is a list of sizes: set it to their largest number, so that size can change')
    return {**settings, 'size': size}


def possible_sizes(size, multiple, max_ratio):
    """[(width, height)] of about size^2 pixels, both multiples of ``multiple`` px, up to a ratio of their sides."""
    low, high = size / max_ratio**0.5, size * max_ratio**0.5
    sides = range(-(-int(np.ceil(low)) // multiple), int(high) // multiple + 1)
    halves = {(side * multiple, max(1, round(size * size / (side * multiple) / multiple)) * multiple) for side in sides}
    return sorted(halves | {(height, width) for width, height in halves})


def choose_sizes(possible, pictures, count):
    """At most ``count`` of the ``possible`` sizes, those with which least is cut off the pictures in the mean.

    The best choice is found, up to the bins of ratios: what is cut off grows with the distance of the logarithms of two
    ratios, so that the pictures of a size are an interval, and the sizes can be chosen one after the other.

    Args:
        possible (list): of (width, height), by growing ratio of width to height.
        pictures (array): (N, 2), width and height.
        count (int): sizes to keep.
    """
    if len(possible) <= count:
        return possible
    bins = np.linspace(-2, 2, _RATIO_STEPS + 1)
    ratios = np.clip(np.log(pictures[:, 0] / pictures[:, 1]), bins[0], bins[-2])
    weights, _ = np.histogram(ratios, bins)
    middles = np.exp((bins[:-1] + bins[1:]) / 2)
    lost = weights[:, None] * (1 - kept_share(np.stack([middles, np.ones_like(middles)], 1), possible))
    edges = np.searchsorted(middles, [width / height for width, height in possible])
    # between[i, j]: lost from pictures between the sizes i and j, if both are chosen and none between them.
    between = np.array([[np.minimum(lost[i_edge:j_edge, i], lost[i_edge:j_edge, j]).sum() if i < j else np.inf
                         for j, j_edge in enumerate(edges)] for i, i_edge in enumerate(edges)])
    total = np.array([lost[:edge, size].sum() for size, edge in enumerate(edges)])  # up to the last chosen one
    before = []
    for _ in range(count - 1):
        sums = total[:, None] + between
        before.append(sums.argmin(0))
        total = sums.min(0)
    last = int(np.argmin(total + [lost[edge:, size].sum() for size, edge in enumerate(edges)]))
    chosen = [last]
    for step in reversed(before):
        chosen.append(int(step[chosen[-1]]))
    return [possible[number] for number in reversed(chosen)]


def _checked_sizes(sizes, multiple):
    for pair in sizes:
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2
                and all(is_number(side, 1, whole=True) and side % multiple == 0 for side in pair)):
            raise SettingError(f'buckets: {pair!r}: use (width, height) in px, multiples of multiple_of={multiple}')
    if not sizes or len({tuple(pair) for pair in sizes}) < len(sizes):
        raise SettingError(f'buckets={sizes!r}: name at least one size, and each once')
    return [tuple(pair) for pair in sizes]


def _check_source(name, source):
    """SettingError for a dataset whose own order or crops would be lost."""
    place = f'source {name}: ' if name else ''
    if getattr(source, 'shuffle_window', None) is not None:
        raise SettingError(f'{place}shuffle_window: pictures of one size come from everywhere; leave it out')
    if not hasattr(source, 'picture_size'):
        raise SettingError(f'{place}{type(source).__name__} lacks picture_size: derive it from ImageDataset')
    for transform in source.pipeline[1:]:
        if is_crop(transform):
            raise SettingError(f'pipeline: {type(transform).__name__} changes the size that AspectBuckets has given a '
                               'picture; leave it out')
