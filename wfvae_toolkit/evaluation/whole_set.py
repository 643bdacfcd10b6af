"""Metrics that score all images at once: the state that they keep, and how ranks merge it."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from wfvae_toolkit.utils.distributed import concatenate_over_ranks, sum_over_ranks
from wfvae_toolkit.utils.errors import SettingError, is_number


class WholeSetScore(NamedTuple):
    """A score of the whole set.

    Attributes:
        value (float): the score.
        ci95 (float | None): half-width of its 95 % confidence interval; None without one.
        blocks (tuple[float]): one value for each block of images, whose spread gives the interval; see
            ``statistics.block_interval``. They make the difference between two models on the same images paired.
        notes (tuple[str]): what a reader must know, shown beside the score.
    """

    value: float
    ci95: float | None = None
    blocks: tuple = ()
    notes: tuple = ()


class WholeSetMetric(nn.Module):
    """Base of the metrics that score the whole set at once.

    A subclass sets ``higher_is_better`` and ``description`` as a `Metric` does, names its state in ``__init__`` with
    `add_sum` and `add_rows`, and gives `update` and `compute`. The evaluator keeps one state for each set of weights
    and merges it over ranks. A state is an attribute of the name that it was added by:

    ==========  =============================================  ==========================================
    added by    in ``update``                                  in ``compute``
    ==========  =============================================  ==========================================
    add_sum     zeros at each call; add this batch to it       float64 tensor: sum over all batches and ranks
    add_rows    an empty list; append one row for each image   tensor: all rows, in the order of the dataset
    ==========  =============================================  ==========================================

    Both are on the CPU in ``compute``, which every rank calls with the same state. Rows keep their type, so 50,000
    features of 2048 float32 values take 400 MB on each rank; sums of features and of their products take 34 MB.

    Attributes:
        autoencoder (nn.Module | None): in ``compute``, that of the batches; None on a rank that had no image.
    """

    higher_is_better: bool | dict | None
    description: str
    autoencoder = None

    def __init__(self):
        super().__init__()
        self.sum_shapes, self.row_names = {}, []

    def add_sum(self, name, *shape):
        """Keep a float64 tensor of this shape, which is summed over batches and ranks; no shape means one number."""
        self._check_name(name)
        self.sum_shapes[name] = shape

    def add_rows(self, name):
        """Keep one row for each image, for example a feature vector."""
        self._check_name(name)
        self.row_names.append(name)

    def _check_name(self, name):
        if hasattr(self, name) or name in self.sum_shapes or name in self.row_names:
            raise SettingError(f'{type(self).__name__}: {name!r} is taken already; give this state another name')

    def begin(self, facts):
        """Called before the first batch of an evaluation with how its images are made, {str: str}; does nothing here.

        Raises:
            SettingError: what the metric compares with was made in another way.
        """

    def update(self, images, reconstructions):
        """Add a batch to the state.

        Args:
            images, reconstructions (Tensor): (B, 3, H, W) in [0, 1] as the protocol scores them, float32.

        Raises:
            UnfitPicture: images of this size cannot be scored. No metric keeps anything of such a batch.
        """
        raise NotImplementedError

    def update_batch(self, batch):
        """The same with an EvaluationBatch, to be overridden by a metric that needs latents or paths."""
        self.update(batch.target, batch.reconstruction)

    def compute(self):
        """The score: a number, a `WholeSetScore`, or a dict of these, whose names get columns ``metric.name``."""
        raise NotImplementedError


class WholeSetRow:
    """A row of ReconstructionEvaluator that scores all images at once; subclasses adapt one kind of metric each.

    Args:
        metric: as it was built.
        higher_is_better (bool | dict[str, bool] | None): by column in a dict.
        description (str): a line for the protocol.
    """

    def __init__(self, metric, higher_is_better, description):
        self.metric, self.higher_is_better, self.description = metric, higher_is_better, description
        self.reset()

    def reset(self):
        """Forget all images."""
        self._indices = {}  # weights -> positions in the dataset, in the order in which they came

    def stage(self, weights_name, indices, batch):
        """Measure an EvaluationBatch and return a function that adds it to the state.

        The evaluator calls that function once every metric has accepted the batch.
        """
        raise NotImplementedError

    def note(self, weights_name, indices):
        """Record that these images are in the state."""
        self._indices.setdefault(weights_name, []).extend(map(int, indices))

    def results(self):
        """What `compute` needs of every rank; it is pickled, so large states travel in `merge` instead."""
        return self._indices

    def compute(self, gathered):
        """``results()`` of all ranks -> {weights: (number of images, {part: WholeSetScore})}; every rank calls it.

        Raises:
            ValueError: an image was measured twice.
            SettingError: the metric's result is neither a number nor a dict of numbers.
        """
        scores = {}
        for weights_name in dict.fromkeys(name for results in gathered for name in results):
            indices = [list(results.get(weights_name, ())) for results in gathered]
            flat = sorted(index for of_rank in indices for index in of_rank)
            for index, following in zip(flat, flat[1:], strict=False):
                if index == following:
                    raise ValueError(f'image {index} was measured twice')
            # KID, for example, draws subsets: every rank draws the same, and training's generator is left alone.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                result = self.merge(weights_name, indices)
            scores[weights_name] = len(flat), scores_of(type(self.metric).__name__, result)
        return scores

    def merge(self, weights_name, indices):
        """Merge the state over ranks and compute; ``indices`` are those of each rank."""
        raise NotImplementedError


class StateRow(WholeSetRow):
    """A `WholeSetMetric` in a row of ReconstructionEvaluator."""

    def __init__(self, metric):
        super().__init__(metric.eval(), metric.higher_is_better, metric.description)

    def reset(self):
        super().reset()
        self._sums, self._rows = {}, {}  # (weights, name) -> tensor; -> list of tensors on the CPU
        self._autoencoders = {}  # weights -> the one of the batches

    def stage(self, weights_name, indices, batch):
        batch = batch.with_float64()
        metric, device = self.metric.to(batch.target.device), batch.target.device
        for name, shape in metric.sum_shapes.items():
            setattr(metric, name, torch.zeros(shape, dtype=torch.float64, device=device))
        for name in metric.row_names:
            setattr(metric, name, [])
        metric.update_batch(batch)
        sums = {name: self._checked_sum(name) for name in metric.sum_shapes}
        rows = {name: self._checked_rows(name, len(indices)) for name in metric.row_names}

        def commit():
            for name, tensor in sums.items():
                key = weights_name, name
                self._sums[key] = self._sums[key] + tensor if key in self._sums else tensor
            for name, tensors in rows.items():
                self._rows.setdefault((weights_name, name), []).extend(tensor.detach().cpu() for tensor in tensors)
            self._autoencoders[weights_name] = batch.autoencoder
            self.note(weights_name, indices)
        return commit

    def _checked_sum(self, name):
        tensor, shape = getattr(self.metric, name), tuple(self.metric.sum_shapes[name])
        if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != shape or tensor.dtype != torch.float64:
            found = f'{tensor.dtype} of shape {tuple(tensor.shape)}' if isinstance(tensor, torch.Tensor) else (
                f'a {type(tensor).__name__}')
            raise SettingError(f'{type(self.metric).__name__}: after update the state {name!r} is {found}; it was '
                               f'added as a float64 sum of shape {shape}, so add to it')
        return tensor

    def _checked_rows(self, name, images):
        tensors = getattr(self.metric, name)
        found = sum(len(tensor) for tensor in tensors)
        if found != images:
            raise SettingError(f'{type(self.metric).__name__}: update appended {found} rows to {name!r} for {images} '
                               'images; append a tensor (B, ...) with one row for each image')
        return tensors

    def merge(self, weights_name, indices):
        flat = torch.tensor([index for of_rank in indices for index in of_rank])
        for name, shape in self.metric.sum_shapes.items():
            mine = self._sums.get((weights_name, name), torch.zeros(shape, dtype=torch.float64))
            setattr(self.metric, name, sum_over_ranks(mine))
        for name in self.metric.row_names:
            mine = self._rows.get((weights_name, name))
            setattr(self.metric, name, concatenate_over_ranks(mine and torch.cat(mine))[flat.argsort()])
        # Not a submodule of the metric: it belongs to the caller.
        object.__setattr__(self.metric, 'autoencoder', self._autoencoders.get(weights_name))
        try:
            return self.metric.compute()
        finally:
            object.__setattr__(self.metric, 'autoencoder', None)


def scores_of(name, result):
    """What ``compute`` of the metric ``name`` returned -> {part: WholeSetScore}; '' is the part of a single number."""
    if isinstance(result, dict) and result:
        # '/' separates the name of the weights from the column.
        return {str(part).replace('/', '.'): _score(name, value) for part, value in result.items()}
    if isinstance(result, (tuple, list)) and result and not isinstance(result, WholeSetScore):
        return {str(place): _score(name, value) for place, value in enumerate(result)}
    return {'': _score(name, result)}


def _score(name, value):
    ci95, blocks, notes = None, (), ()
    if isinstance(value, WholeSetScore):
        value, ci95, blocks, notes = value
    value, ci95 = _number(value), _number(ci95)
    if not isinstance(value, (int, float)) or not (ci95 is None or is_number(ci95)):
        raise SettingError(f'{name}: compute returned {value!r:.80}; a number, a WholeSetScore or a dict of these is '
                           'needed')
    return WholeSetScore(float(value), ci95, tuple(map(float, blocks)), tuple(map(str, notes)))


def _number(value):
    """A tensor or an array of one value -> its value; anything else unchanged."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) and math.prod(value.shape) == 1:
        return value.item()
    return value


def whole_set_entry(score, higher_is_better, images):
    """A column of summary.json for a WholeSetScore of so many images."""
    return {'mean': score.value if math.isfinite(score.value) else None, 'ci95': score.ci95,
            'infinite': int(math.isinf(score.value)), 'nan': int(math.isnan(score.value)),
            'higher_is_better': higher_is_better, 'images': images,
            **({'blocks': list(score.blocks)} if score.blocks else {}),
            **({'notes': list(score.notes)} if score.notes else {})}
