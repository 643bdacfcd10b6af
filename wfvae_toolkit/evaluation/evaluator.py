"""Per-image numbers of reconstructions, gathered from every rank, with their means, intervals and files."""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch

from wfvae_toolkit.models.perceptual import PerceptualWeightsMissing
from wfvae_toolkit.registry import EVALUATORS, METRICS
from wfvae_toolkit.utils.distributed import gather
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.utils.files import atomic_write, printable, write_json

from .metric import EvaluationBatch
from .statistics import statistics

ARROWS = {True: '↑', False: '↓', None: ''}


@dataclass
class EvaluationSummary:
    """An evaluation's result; all but ``rows`` goes into summary.json, ``rows`` into metrics.csv.

    Attributes:
        images (int): how many were measured.
        protocol (dict[str, str | int | float | bool]): how.
        metrics (dict[str, dict]): by column ('PSNR', 'raw/PSNR'): ``mean`` (None without a finite value, or with a
            NaN), ``ci95``, ``infinite`` and ``nan`` (counts), ``higher_is_better`` (None: neither).
        not_computed (dict[str, str]): metric -> reason.
        skipped (list[dict]): ``path`` and ``reason`` of images that could not be read.
        rows (list[dict]): ``path`` and one value a column, in the dataset's order.
    """

    images: int
    protocol: dict
    metrics: dict
    not_computed: dict
    skipped: list
    rows: list


@EVALUATORS.register_module()
class ReconstructionEvaluator:
    """Measures reconstructions image by image and averages once over all of them, on any number of ranks.

    Args:
        metrics (dict[str, dict | None]): name in tables and files -> config of a metric; None drops the row.
            ``optional=True`` in a config lists a metric under ``not_computed`` if its weights are missing.
        quantize (bool): round to 8 bits first, so that the scores are those of saved PNGs.

    Raises:
        PerceptualWeightsMissing: weights of a metric that is not optional are missing.
        ValueError: a metric's name cannot stand for a column.
    """

    def __init__(self, metrics, quantize=True):
        self.quantize = quantize
        self.metrics, self.not_computed = {}, {}
        if not isinstance(metrics, dict):
            raise SettingError(f"metrics={metrics!r}: use dict(PSNR=dict(type='PSNR'))")
        for name, cfg in metrics.items():
            if name == 'path' or '/' in name:
                raise SettingError(f"metric {name!r}: a name holds no '/' and is not 'path', which the files use")
            if cfg is not None:
                with located(f'metrics.{name}'):
                    self._build(name, cfg)
        self.reset()

    def _build(self, name, cfg):
        if not isinstance(cfg, dict):
            raise SettingError(f"{cfg!r}: use dict(type='Name', ...)")
        settings = dict(cfg)
        optional = settings.pop('optional', False)
        try:
            self.metrics[name] = METRICS.build(settings).eval()
        except PerceptualWeightsMissing as error:
            if not optional:
                raise
            self.not_computed[name] = ' '.join(str(error).split())

    def reset(self):
        """Forget all images."""
        self._records = []  # (index, path, {column: value})
        self._skipped = {}  # path -> reason

    @torch.no_grad()
    def process(self, weights_name, indices, paths, target, reconstruction, latents=None, latent_dist=None,
                autoencoder=None):
        """Measure a batch.

        Args:
            weights_name (str): '' for the weights that a user gets, 'raw' for those under the EMA; columns of the
                latter are called 'raw/<metric>'.
            indices (Sequence[int]): positions in the dataset; an image counts once for each ``weights_name``.
            paths (Sequence[str]): relative to the dataset.
            target, reconstruction (Tensor): (B, 3, H, W) in [-1, 1]; values outside are clamped.
            latents, latent_dist, autoencoder: handed on to the metrics, see EvaluationBatch. Latents may be of the
                target filled up on the right and below.

        Raises:
            UnfitPicture: a metric cannot score images of this size; nothing of the batch is kept.
        """
        paths = tuple(map(printable, paths))
        batch = EvaluationBatch(self._scored(target), self._scored(reconstruction), latents, paths, latent_dist,
                                autoencoder)
        prefix = f'{weights_name}/' if weights_name else ''
        columns = {f'{prefix}{column}': values for name in self.metrics
                   for column, values in self._measure(name, batch).items()}
        for position, (index, path) in enumerate(zip(indices, paths, strict=True)):
            values = {column: measured[position] for column, measured in columns.items()}
            self._records.append((int(index), path, values))

    def skip(self, path, reason):
        """Note an image that cannot be measured; a second note of the same image changes nothing."""
        self._skipped.setdefault(printable(path), printable(reason))

    def summarize(self, protocol=None):
        """The images of all ranks -> EvaluationSummary, the same on every rank; every rank must call it.

        Args:
            protocol (dict): what the caller knows of it (resolution, crop, latent, ...): numbers and strings.

        Raises:
            ValueError: an image was measured twice, or lacks a value that others have.
        """
        gathered = gather((self._records, self._skipped))
        rows = _merge(record for records, _ in gathered for record in records)
        skipped = dict(sorted(item for _, noted in gathered for item in noted.items()))
        columns = [column for column in rows[0] if column != 'path'] if rows else []
        return EvaluationSummary(
            images=len(rows),
            protocol={**(protocol or {}), **self._protocol()},
            metrics={column: self._statistics(column, [row[column] for row in rows]) for column in columns},
            not_computed=dict(self.not_computed),
            skipped=[{'path': path, 'reason': reason} for path, reason in skipped.items()],
            rows=rows)

    def _scored(self, image):
        # In place after the first step, which copies: fresh memory costs more than the arithmetic.
        image = image.float().clamp(-1, 1).add_(1).div_(2)
        return image.mul_(255).round_().div_(255) if self.quantize else image

    def _measure(self, name, batch):
        """Column -> list of one value an image."""
        device = batch.target.device
        # A published number is one in float32: no autocast of the caller's, no TF32 on the device.
        with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            measured = self.metrics[name].to(device).measure(batch)
        if not isinstance(measured, dict):
            measured = {'': measured}
        for values in measured.values():
            if values.shape != batch.target.shape[:1]:
                raise ValueError(f'metric {name}: measure returned {tuple(values.shape)} for {len(batch.target)} '
                                 'images, expected one value an image')
        return {f'{name}.{part}' if part else name: values.tolist() for part, values in measured.items()}

    def _protocol(self):
        rounding = ', rounded to 8 bits' if self.quantize else ''
        return {
            'quantize': self.quantize,
            'pixel_values': f'clamped to [-1, 1], mapped to [0, 1]{rounding}',
            'mean': 'of per-image values, once over all images',
            'ci95': "half-width of the mean's 95 % confidence interval, Student t, sample standard deviation",
            **{name: metric.description for name, metric in self.metrics.items()}}

    def _statistics(self, column, values):
        # A name may hold dots itself, so the longest one that fits is the metric's.
        column = column.rpartition('/')[2]
        name = max((name for name in self.metrics if f'{column}.'.startswith(f'{name}.')), key=len)
        return {**statistics(values), 'higher_is_better': self.metrics[name].higher_is_better}


def write_results(summary, folder):
    """Write ``summary.json`` and ``metrics.csv`` (one row an image) into ``folder``; for one rank to call."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / 'metrics.csv', 'w') as file:
        writer = csv.DictWriter(file, ['path', *summary.metrics], lineterminator='\n')
        writer.writeheader()
        writer.writerows(summary.rows)
    write_json(folder / 'summary.json', {
        'images': summary.images,
        'protocol': summary.protocol,
        'metrics': summary.metrics,
        'not_computed': summary.not_computed,
        'skipped': summary.skipped})


def format_table(summary):
    """Plain text: a line a metric (with a column for each set of weights), what is missing, the protocol."""
    prefixes = list(dict.fromkeys(column.rpartition('/')[0] for column in summary.metrics))
    titles = {'': 'EMA' if len(prefixes) > 1 else 'mean'}
    table = [['metric', *(titles.get(prefix, prefix) for prefix in prefixes)]]
    for name in dict.fromkeys(column.rpartition('/')[2] for column in summary.metrics):
        found = [summary.metrics.get(f'{prefix}/{name}' if prefix else name) for prefix in prefixes]
        arrow = ARROWS[next(filter(None, found))['higher_is_better']]
        table.append([f'{name} {arrow}'.rstrip(), *('' if entry is None else _format(entry) for entry in found)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, '-' * max(map(len, lines)))
    lines += [f'not computed: {name}: {reason}' for name, reason in summary.not_computed.items()]
    lines += ['', f'{summary.images} images, {len(summary.skipped)} skipped']
    lines += [f'{key}: {value}' for key, value in summary.protocol.items()]
    return '\n'.join(lines)


def _format(entry):
    counts = [f'{entry[kind]} {kind}' for kind in ('infinite', 'nan') if entry[kind]]
    mean = 'n/a' if entry['mean'] is None else f'{entry["mean"]:.4f}'
    interval = '' if entry['ci95'] is None else f' +- {entry["ci95"]:.4f}'
    return mean + interval + (f' ({", ".join(counts)})' if counts else '')


def _merge(records):
    """(index, path, values) of each batch -> one dict an image, by index."""
    rows = {}
    for index, path, values in records:
        row = rows.setdefault(index, {'path': path})
        again = sorted(values.keys() & row.keys())
        if again or row['path'] != path:
            raise ValueError(f'image {index} was measured twice: {path} and {row["path"]}, {", ".join(again)}')
        row.update(values)
    ordered = [rows[index] for index in sorted(rows)]
    for row in ordered:
        if row.keys() != ordered[0].keys():
            lacking = sorted(row.keys() ^ ordered[0].keys())
            raise ValueError(f'{ordered[0]["path"]} and {row["path"]}: only one of them has {", ".join(lacking)}')
    return ordered
