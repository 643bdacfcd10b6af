"""MMEngine's metrics, which score the whole dataset at once, beside those of this package."""

import math

import torch


class WholeSetMetric:
    """A ``mmengine.evaluator.BaseMetric`` in a row of ReconstructionEvaluator.

    Its ``process(data_batch, data_samples)`` gets ``data_batch=dict(inputs=)``, targets (B, 3, H, W), and one dict an
    image: ``gt_img`` and ``pred_img`` (3, H, W), float32 in [0, 1] as the protocol scores them, and ``img_path``. Its
    ``compute_metrics`` gets the results of all ranks, in the order of the dataset.

    Args:
        metric (BaseMetric): as built.
        higher_is_better (bool | dict[str, bool] | None): what its columns say; None: the metric's attribute of this
            name, if it has one.
    """

    def __init__(self, metric, higher_is_better=None):
        self.metric = metric
        self.higher_is_better = higher_is_better if higher_is_better is not None else getattr(
            metric, 'higher_is_better', None)
        self.description = f'{type(metric).__name__}, computed over all images at once'
        self.reset()

    def reset(self):
        self._results = {}  # weights -> [(index, number, result)]
        self.metric.results.clear()

    def process(self, weights_name, indices, batch):
        """Let the metric see a batch; what it keeps is put in the order of the dataset later."""
        images = zip(batch.target, batch.reconstruction, batch.paths, strict=True)
        samples = [dict(gt_img=target, pred_img=reconstruction, img_path=path)
                   for target, reconstruction, path in images]
        self.metric.process(dict(inputs=batch.target), samples)
        # One result an image belongs to that image; another number of them to the batch.
        one_each = len(self.metric.results) == len(indices)
        self._results.setdefault(weights_name, []).extend(
            (int(indices[number if one_each else 0]), number, _to_cpu(result))
            for number, result in enumerate(self.metric.results))
        self.metric.results.clear()

    def results(self):
        """What to gather from every rank."""
        return self._results

    def compute(self, gathered):
        """``results()`` of all ranks -> {'raw/part': value} for every set of weights."""
        values = {}
        for weights_name in dict.fromkeys(name for results in gathered for name in results):
            rows = sorted((row for results in gathered for row in results.get(weights_name, [])),
                          key=lambda row: row[:2])
            prefix = f'{weights_name}/' if weights_name else ''
            for part, value in self.metric.compute_metrics([result for _, _, result in rows]).items():
                # '/' stands between weights and column.
                values[f'{prefix}{str(part).replace("/", ".")}'] = float(value)
        return values


def whole_set_entry(value, higher_is_better):
    """A column of summary.json for one value of the whole dataset."""
    return {'mean': value if math.isfinite(value) else None, 'ci95': None, 'infinite': int(math.isinf(value)),
            'nan': int(math.isnan(value)), 'higher_is_better': higher_is_better}


def _to_cpu(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: _to_cpu(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_cpu(item) for item in value)
    return value
