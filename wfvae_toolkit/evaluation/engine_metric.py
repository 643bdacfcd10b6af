"""MMEngine's metrics as rows of the evaluator."""

import torch

from .whole_set import WholeSetRow, scores_of


class EngineRow(WholeSetRow):
    """A ``mmengine.evaluator.BaseMetric`` in a row of ReconstructionEvaluator.

    Its ``process(data_batch, data_samples)`` gets ``data_batch=dict(inputs=)``, targets (B, 3, H, W), and one dict for
    each image: ``gt_img`` and ``pred_img`` (3, H, W), float32 in [0, 1] as the protocol scores them, and ``img_path``.
    Its ``compute_metrics`` gets the results of all ranks, in the order of the dataset.

    Args:
        metric (BaseMetric): as it was built.
        higher_is_better (bool | dict[str, bool] | None): direction of its columns. None: the metric's attribute of
            this name, if it has one.
    """

    def __init__(self, metric, higher_is_better=None):
        if higher_is_better is None:
            higher_is_better = getattr(metric, 'higher_is_better', None)
        super().__init__(metric, higher_is_better, f'{type(metric).__name__}, computed over all images at once')

    def reset(self):
        self._results = {}  # weights -> [(index, number, result)]
        self._images = {}  # weights -> how many
        self.metric.results.clear()

    def stage(self, weights_name, indices, batch):
        images = zip(batch.target, batch.reconstruction, batch.paths, strict=True)
        samples = [dict(gt_img=target, pred_img=reconstruction, img_path=path)
                   for target, reconstruction, path in images]
        self.metric.results.clear()
        self.metric.process(dict(inputs=batch.target), samples)
        # One result for each image belongs to that image. Any other number of results belongs to the batch.
        one_each = len(self.metric.results) == len(indices)
        rows = [(int(indices[number if one_each else 0]), number, _to_cpu(result))
                for number, result in enumerate(self.metric.results)]
        self.metric.results.clear()

        def commit():
            self._results.setdefault(weights_name, []).extend(rows)
            self._images[weights_name] = self._images.get(weights_name, 0) + len(indices)
        return commit

    def results(self):
        return {name: (self._images[name], rows) for name, rows in self._results.items()}

    def compute(self, gathered):
        scores = {}
        for weights_name in dict.fromkeys(name for results in gathered for name in results):
            of_ranks = [results[weights_name] for results in gathered if weights_name in results]
            rows = sorted((row for _, found in of_ranks for row in found), key=lambda row: row[:2])
            values = self.metric.compute_metrics([result for _, _, result in rows])
            scores[weights_name] = sum(images for images, _ in of_ranks), scores_of(
                type(self.metric).__name__, {part: float(value) for part, value in values.items()})
        return scores


def _to_cpu(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: _to_cpu(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_cpu(item) for item in value)
    return value
