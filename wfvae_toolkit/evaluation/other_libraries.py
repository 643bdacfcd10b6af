"""Metrics of torchmetrics and pyiqa, and plain functions, as rows of the evaluator.

Neither package is imported here: a config names it, and its classes are known by their attributes.
"""

import inspect
from importlib import import_module

import torch

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.distributed import gather
from wfvae_toolkit.utils.errors import SettingError

from .metric import Metric
from .whole_set import WholeSetRow


def is_torchmetrics(metric):
    """Whether ``metric`` has the interface of ``torchmetrics.Metric``."""
    return all(hasattr(metric, name) for name in ('update', 'compute', 'reset', '_reductions', '_update_count'))


def is_pyiqa(metric):
    """Whether ``metric`` is what ``pyiqa.create_metric`` returns."""
    return callable(metric) and all(hasattr(metric, name) for name in ('lower_better', 'metric_mode', 'metric_name'))


class TorchmetricsRow(WholeSetRow):
    """A ``torchmetrics.Metric`` in a row of ReconstructionEvaluator.

    Its ``update`` gets one image at a time, float32 (1, 3, H, W) in [0, 1], so that batches and ranks do not change the
    sums: ``(reconstruction, target)``; the reconstruction alone if it takes one argument; or first
    ``(target, real=True)`` and then ``(reconstruction, real=False)`` if it has an argument ``real``. Floating point
    states are kept in float64. Ranks are merged by each state's ``dist_reduce_fx``. A list with one entry for each
    image is put in the order of the dataset.

    Args:
        metric (torchmetrics.Metric): as it was built.
        higher_is_better (bool | dict[str, bool] | None): direction of its columns; None takes the metric's own.

    Raises:
        SettingError: the metric was built with ``normalize=False``, for which [0, 1] is the wrong range.
    """

    def __init__(self, metric, higher_is_better=None):
        name = type(metric).__name__
        if getattr(metric, 'normalize', True) is False:
            raise SettingError(f'{name}: set normalize=True, because images are passed as numbers in [0, 1]')
        if higher_is_better is None:
            higher_is_better = getattr(metric, 'higher_is_better', None)
        # The ranks are merged here, in float64 and in the order of the dataset.
        metric.distributed_available_fn = lambda: False
        parameters = list(inspect.signature(metric.update).parameters)
        self._takes_real, self._takes_one = 'real' in parameters, len(parameters) == 1
        super().__init__(metric.eval(), higher_is_better, f'torchmetrics {name}, computed over all images at once')

    def reset(self):
        super().reset()
        self._states = {}  # weights -> {name: tensor or list}
        self.metric.reset()

    def stage(self, weights_name, indices, batch):
        batch = batch.with_float64()

        def commit():
            metric = self.metric.to(batch.target.device)
            for name, value in (self._states.get(weights_name) or self._empty()).items():
                setattr(metric, name, _copy_of_list(value))
            for target, reconstruction in zip(batch.target.split(1), batch.reconstruction.split(1), strict=True):
                self._update(target, reconstruction)
            self._states[weights_name] = {name: _copy_of_list(getattr(metric, name)) for name in metric._reductions}
            self.note(weights_name, indices)
        return commit

    def _empty(self):
        self.metric.reset()
        return {name: _wide(getattr(self.metric, name)) for name in self.metric._reductions}

    def _update(self, target, reconstruction):
        if self._takes_real:
            self.metric.update(target, real=True)
            self.metric.update(reconstruction, real=False)
        elif self._takes_one:
            self.metric.update(reconstruction)
        else:
            self.metric.update(reconstruction, target)

    def merge(self, weights_name, indices):
        mine = {name: [item.cpu() for item in value] if isinstance(value, list) else value.cpu()
                for name, value in self._states.get(weights_name, {}).items()}
        gathered = gather(mine)
        # A rank without images holds nothing but starting values.
        states = [state for state, of_rank in zip(gathered, indices, strict=True) if of_rank]
        indices = [of_rank for of_rank in indices if of_rank]
        metric = self.metric.to('cpu')
        metric.reset()
        for name, reduction in metric._reductions.items():
            values = [state[name] for state in states]
            setattr(metric, name, self._merged_list(values, indices) if isinstance(values[0], list) else
                    self._merged(name, reduction, values, indices))
        # Without it torchmetrics warns that there was no update.
        metric._update_count = sum(map(len, indices))
        return metric.compute()

    def _merged(self, name, reduction, values, indices):
        if len(values) == 1:
            return values[0]
        stacked = torch.stack(values)
        averaged = getattr(reduction, '__name__', '').endswith('mean')
        if averaged and (stacked != stacked[0]).any() and len({len(of_rank) for of_rank in indices}) > 1:
            raise SettingError(f'{type(self.metric).__name__}: the state {name!r} is averaged over ranks, which hold '
                               f'{[len(of_rank) for of_rank in indices]} images; evaluate on one process')
        return stacked if reduction is None else reduction(stacked)

    def _merged_list(self, values, indices):
        if [len(value) for value in values] == [len(of_rank) for of_rank in indices]:
            pairs = ((index, item) for of_rank, value in zip(indices, values, strict=True)
                     for index, item in zip(of_rank, value, strict=True))
            return [item for _, item in sorted(pairs, key=lambda pair: pair[0])]
        return [item for value in values for item in value]


def _copy_of_list(value):
    # `reset` of torchmetrics empties its lists in place.
    return list(value) if isinstance(value, list) else value


def _wide(value):
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


class PyiqaMetric(Metric):
    """What ``pyiqa.create_metric`` returned, called for each image; its ``lower_better`` gives the direction.

    A full-reference metric gets ``(reconstruction, target)``, one without a reference the reconstruction alone:
    float32 (1, 3, H, W) in [0, 1].
    """

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.higher_is_better = not network.lower_better
        self.description = f'pyiqa {network.metric_name}, image by image'

    def measure(self, batch):
        pairs = zip(batch.reconstruction.split(1), batch.target.split(1), strict=True)
        alone = self.network.metric_mode == 'NR'
        return _one_each(f'pyiqa {self.network.metric_name}',
                         [self.network(ours) if alone else self.network(ours, target) for ours, target in pairs])


@METRICS.register_module()
class PictureFunction(Metric):
    """A function ``(reconstruction, target, **arguments) -> one number``, called for each image.

    Args:
        function (str): dotted path, for example ``torchmetrics.functional.image.universal_image_quality_index``. It
            gets float32 (1, 3, H, W) in [0, 1]. ``higher_is_better`` in the row says which direction is better.
        arguments (dict): settings of the function.

    Raises:
        SettingError: there is no such function, or it does not take these arguments.
    """

    higher_is_better = None

    def __init__(self, function, arguments=None):
        super().__init__()
        self.name, self.arguments = function, dict(arguments or {})
        try:
            module, _, name = function.rpartition('.')
            self.function = getattr(import_module(module), name)
            inspect.signature(self.function).bind(None, None, **self.arguments)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise SettingError(f'function={function!r}: {error}; a dotted path of a function of '
                               '(reconstruction, target) is needed') from error
        settings = ''.join(f', {name}={value!r}' for name, value in self.arguments.items())
        self.description = f'{function}(reconstruction, target{settings}), image by image'

    def measure(self, batch):
        pairs = zip(batch.reconstruction.split(1), batch.target.split(1), strict=True)
        return _one_each(self.name, [self.function(ours, target, **self.arguments) for ours, target in pairs])


def _one_each(name, values):
    """One tensor of one element for each image -> (B,)."""
    for value in values:
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            found = f'shape {tuple(value.shape)}' if isinstance(value, torch.Tensor) else f'a {type(value).__name__}'
            raise SettingError(f'{name} returned {found} for one image; a tensor of one number is needed')
    return torch.stack([value.detach().reshape(()) for value in values])
