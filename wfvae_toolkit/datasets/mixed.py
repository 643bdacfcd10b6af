"""A mixture of several datasets, as one dataset."""

import math
import operator
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

from torch.utils.data import Dataset

from ..registry import DATASETS
from ..utils.errors import SettingError, UserError
from .bad_files import BadFile
from .base import SampleError, SampleKey, build_dataset, crop_sizes, evaluation_key
from .order import MixedOrder


@DATASETS.register_module()
class MixedDataset(Dataset):
    """Named sources. Training draws them by weight; evaluation takes them one after the other.

    Source and index of a training sample are a function of (seed, position), see `MixedOrder`. Each source has epochs
    of its own and is shuffled in each, so that a small source repeats more often. A bad file is replaced by a picture
    of the same source. In reports a path starts with the name of its source: ``name/path``.

    Args:
        sources (dict): name -> ``dict(weight=, dataset=dict(type=...))``; only the ratios of weights count. None
            removes a source that a config inherits.
        pipeline (sequence of dict): replaces the pipeline of every source.
        option (str): setting of this dataset, followed by ``.data_root``, for messages.

    Raises:
        SettingError: there is no source, or one has another form.
    """

    def __init__(self, sources, pipeline=None, option='train_dataloader.dataset.data_root'):
        sources = {name: source for name, source in sources.items() if source is not None}
        if not sources:
            raise SettingError('MixedDataset has no source: sources=dict(name=dict(weight=1.0, dataset=dict(...)))')
        place = option.removesuffix('.data_root')
        self.datasets, self.weights = {}, {}
        for name, source in sources.items():
            if not isinstance(source, dict) or source.keys() != {'weight', 'dataset'}:
                raise SettingError(f'source {name}: {source!r}: use dict(weight=1.0, dataset=dict(type=...)), or None')
            if not _is_weight(source['weight']):
                raise SettingError(f'source {name}: weight={source["weight"]!r}: use a positive number; '
                                   f'{place}.sources.{name}=None removes the source')
            cfg = source['dataset'] if pipeline is None else {**source['dataset'], 'pipeline': pipeline}
            self.datasets[name] = build_dataset(cfg, option=f'{place}.sources.{name}.dataset.data_root')
            self.weights[name] = source['weight']
            if hasattr(self.datasets[name], 'batch_order'):
                raise SettingError(f'source {name}: {type(self.datasets[name]).__name__} gives each batch one size, '
                                   "which a mixture would mix: use it around the mixture, dataset=dict(type='Mixed"
                                   "Dataset', ...)")
        self._names = list(self.datasets)
        self._starts = [0, *accumulate(map(len, self.datasets.values()))]

    def __len__(self):
        return self._starts[-1]

    def path(self, index):
        name, start = self._source(index)
        return f'{name}/{self.datasets[name].path(index - start)}'

    def order(self, length, seed, shuffle):
        """`MixedOrder`; SettingError for a part of the mixture, because a mixture has no first samples."""
        if length != len(self):
            raise SettingError(f'max_images={length}: a mixture has no first samples; leave max_images out in training')
        lengths = {name: len(dataset) for name, dataset in self.datasets.items()}
        orders = {name: dataset.order_of for name, dataset in self.datasets.items() if hasattr(dataset, 'order_of')}
        return MixedOrder(lengths, self.weights, seed, shuffle, orders)

    def crop_size(self):
        """Edge in px of every picture, None if the sources differ or it depends on the file."""
        sizes = {dataset.crop_size() for dataset in self.datasets.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def crop_sizes(self):
        """(height, width) in px of the sources' pictures, [] if one of them depends on the file."""
        sizes = [crop_sizes(dataset) for dataset in self.datasets.values()]
        return sorted(set().union(*sizes)) if all(sizes) else []

    @property
    def has_extras(self):
        """Whether samples have extra fields."""
        return any(getattr(dataset, 'has_extras', False) for dataset in self.datasets.values())

    def picture_size(self, index):
        """See `ImageDataset`."""
        name, start = self._source(index)
        return self.datasets[name].picture_size(index - start)

    def file_state(self, index):
        """See `ImageDataset`."""
        name, start = self._source(index)
        return self.datasets[name].file_state(index - start)

    def set_size(self, size):
        """See `ImageDataset`."""
        for dataset in self.datasets.values():
            dataset.set_size(size)

    def prepare_evaluation(self):
        for dataset in self.datasets.values():
            dataset.prepare_evaluation()

    def remarks(self):
        """Lines of the sources, each after the name of its source."""
        return [f'source {name}: {line}' for name, dataset in self.datasets.items()
                for line in getattr(dataset, 'remarks', list)()]

    @property
    def deadline_s(self):
        """The longest of the sources', see `IndexedImages`."""
        return max(getattr(dataset, 'deadline_s', 0) for dataset in self.datasets.values())

    def closing_remarks(self):
        """Lines of the sources for the end of a training."""
        return [f'source {name}: {line}' for name, dataset in self.datasets.items()
                for line in getattr(dataset, 'closing_remarks', list)()]

    def __getitem__(self, key):
        """`SampleKey`, or an index in the concatenated sources -> `Sample` with path and index in the mixture."""
        index = key.index if isinstance(key, SampleKey) else operator.index(key)
        if not 0 <= index < len(self):
            raise IndexError(f'index {index}: there are {len(self)} samples')
        key = key if isinstance(key, SampleKey) else evaluation_key(index)
        name, start = self._source(index)
        try:
            sample = self.datasets[name][key._replace(index=index - start)]
        except (UserError, SampleError) as error:
            raise type(error)(f'source {name}: {error}') from error
        return replace(sample, path=f'{name}/{sample.path}', index=start + sample.index,
                       bad=tuple(BadFile(f'{name}/{bad.path}', bad.reason) for bad in sample.bad))

    def _source(self, index):
        number = bisect_right(self._starts, index) - 1
        return self._names[number], self._starts[number]


def _is_weight(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
