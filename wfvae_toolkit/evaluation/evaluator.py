"""Scores of reconstructions, image by image and of the whole set, merged over ranks, with their files."""

import csv
import difflib
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric

from wfvae_toolkit.models.perceptual import PerceptualWeightsMissing
from wfvae_toolkit.registry import EVALUATORS, METRICS
from wfvae_toolkit.utils.distributed import gather
from wfvae_toolkit.utils.errors import MissingLibrary, SettingError, is_number, located
from wfvae_toolkit.utils.files import atomic_write, printable, write_json

from .engine_metric import EngineRow
from .metric import EvaluationBatch, Metric
from .other_libraries import PyiqaMetric, TorchmetricsRow, is_pyiqa, is_torchmetrics
from .pixels import TITLES, find_pixels
from .protocols import find_protocol
from .statistics import mean_of_batch_means, statistics
from .whole_set import StateRow, WholeSetMetric, WholeSetRow, whole_set_entry


@dataclass
class EvaluationSummary:
    """The result of an evaluation. ``rows`` is written to metrics.csv, the rest to summary.json.

    Attributes:
        images (int): number of images that were measured.
        protocol (dict[str, str | int | float | bool]): how they were measured.
        metrics (dict[str, dict]): by column ('PSNR', 'raw/PSNR'): ``mean`` (None without a finite value, or with a
            NaN), ``ci95``, ``infinite`` and ``nan`` (counts), ``higher_is_better`` (None: neither direction). A score
            of the whole set stands under ``mean`` too, with ``images``, the number of images in it.
        not_computed (dict[str, str]): metric -> reason.
        skipped (list[dict]): ``path`` and ``reason`` of images that could not be read or scored.
        rows (list[dict]): ``path`` and one value for each column, in the order of the dataset.
    """

    images: int
    protocol: dict
    metrics: dict
    not_computed: dict
    skipped: list
    rows: list


@EVALUATORS.register_module()
class ReconstructionEvaluator:
    """Measures reconstructions on any number of ranks: image by image, averaged once at the end, and as a whole set.

    Args:
        metrics (dict[str, dict | None]): name in tables and files -> config of a metric; None drops the row.
            ``optional=True`` in a config lists a metric under ``not_computed`` if its weights are missing.
            A metric is a `Metric` (one value for each image), a `WholeSetMetric`, a metric of torchmetrics
            (`TorchmetricsRow`), of pyiqa (`PyiqaMetric`) or of MMEngine (`EngineRow`). ``higher_is_better`` in a
            config gives the direction of a metric that does not give one itself; ``pixels`` says which numbers it sees
            (see `pixels`); ``mean_of_batches=8`` averages the means of batches of 8 images, as some scripts do.
        quantize (bool): round to 8 bits first, so that the scores are those of saved PNGs; for rows without ``pixels``.
        protocol (str): one of ``protocols.PROTOCOLS``; all but 'ours' set the rows PSNR, SSIM, LPIPS and FID.
        resolution (int): edge in px of what the protocol scores; None: its own.

    Raises:
        PerceptualWeightsMissing: weights of a metric that is not optional are missing.
        MissingLibrary: a package that such a metric needs is missing.
        SettingError: a metric's name cannot be the name of a column, or a part is not a metric.

    Attributes:
        columns (list[str]): 'PSNR', 'Name.part': the columns that were measured so far. A metric that has not
            measured yet stands there by its name.
        not_computed (dict[str, str]): metric -> why it is left out.
        protocol (Protocol): how images are made and scored.
    """

    def __init__(self, metrics, quantize=True, protocol='ours', resolution: int | None = None):
        self.quantize = quantize
        self.protocol = find_protocol(protocol, resolution)
        self.metrics, self.not_computed = {}, {}
        self._pixels, self._mean_of_batches = {}, {}  # metric -> mode of `pixels`; -> size of a batch
        self._parts = {}  # metric -> its columns, once it has measured
        if not isinstance(metrics, dict):
            raise SettingError(f"metrics={metrics!r}: use dict(PSNR=dict(type='PSNR'))")
        for name, cfg in self.protocol.rows(metrics).items():
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
        optional, better = settings.pop('optional', False), settings.pop('higher_is_better', None)
        self._pixels[name] = settings.pop('pixels', None) or ('rounded' if self.quantize else 'clamped')
        find_pixels(self._pixels[name])
        batches = settings.pop('mean_of_batches', None)
        if batches is not None and not is_number(batches, 1, whole=True):
            raise SettingError(f'mean_of_batches={batches!r}: a number of images from 1, or None')
        self._mean_of_batches[name] = batches
        try:
            metric = METRICS.build(settings)
        except (PerceptualWeightsMissing, MissingLibrary) as error:
            if not optional:
                raise
            self.not_computed[name] = ' '.join(str(error).split())
            return
        if batches is not None and not isinstance(metric, Metric):
            raise SettingError(f'mean_of_batches={batches!r}: {type(metric).__name__} has no values of single images')
        if isinstance(metric, BaseMetric):
            self.metrics[name] = EngineRow(metric, better)
            return
        if is_torchmetrics(metric):
            self.metrics[name] = TorchmetricsRow(metric, better)
            return
        if is_pyiqa(metric):
            metric = PyiqaMetric(metric)
        work = 'compute' if isinstance(metric, WholeSetMetric) else 'measure'
        lacking = [part for part in (work, 'higher_is_better', 'description', 'eval') if not hasattr(metric, part)]
        if lacking:
            raise SettingError(f'{type(metric).__name__} has no {" and no ".join(lacking)}: derive it from '
                               'wfvae_toolkit.evaluation.Metric or WholeSetMetric, and set higher_is_better and '
                               'description')
        if better is not None and metric.higher_is_better is not None:
            raise SettingError(f'higher_is_better={better!r}: this metric sets it itself, to '
                               f'{metric.higher_is_better}; leave the setting out')
        if better is not None:
            metric.higher_is_better = better
        if hasattr(metric, 'check_name'):
            metric.check_name(name)
        self.metrics[name] = StateRow(metric) if isinstance(metric, WholeSetMetric) else metric.eval()

    def reset(self):
        """Forget all images."""
        self._records = []  # (index, path, {column: value})
        self._skipped = {}  # path -> reason
        for metric in self._whole_set().values():
            metric.reset()

    def begin(self, pipeline):
        """Forget all images, and tell metrics of whole sets how the next ones are made.

        Args:
            pipeline (str): one line on resizing and cropping.

        Raises:
            SettingError: reference statistics of a metric were made in another way.
        """
        self.reset()
        for name, row in self._whole_set().items():
            if isinstance(row, StateRow):
                with located(f'metrics.{name}'):
                    row.metric.begin({'protocol': self.protocol.name, 'pipeline': pipeline,
                                      'pixels': TITLES[self._pixels[name]]})

    @property
    def columns(self):
        return [column for name in self.metrics for column in self._known_parts(name) or [name]]

    def _known_parts(self, name):
        """Columns of a metric; None as long as they are not known."""
        better = getattr(self.metrics.get(name), 'higher_is_better', None)
        return self._parts.get(name) or ([f'{name}.{part}' for part in better] if isinstance(better, dict) else None)

    def higher_is_better(self, column, known=()):
        """Whether a higher value of ``column`` ('PSNR', 'raw/PSNR', 'Name.part') is better; None: neither is.

        Raises:
            SettingError: no metric gives it, or its weights are missing; ``known`` are the columns to name.
        """
        bare = column.removeprefix('raw/')
        name = self._metric_of(bare)
        if name is None and bare in self.not_computed:
            raise SettingError(f'{column!r} is not measured: {self.not_computed[bare]}')
        parts = self._known_parts(name)
        if name is None or (parts is not None and bare not in parts):
            known = list(known or self.columns)
            near = difflib.get_close_matches(column, known, n=1, cutoff=0.6)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise SettingError(f'{column!r} is never measured; use one of {", ".join(known)}{hint}')
        return self._direction(name, bare)

    def _direction(self, name, column):
        better = self.metrics[name].higher_is_better
        return better.get(column.removeprefix(f'{name}.')) if isinstance(better, dict) else better

    def _metric_of(self, column):
        """The metric whose column it is, without ``raw/``; None: of none."""
        # A name may hold dots itself, so the longest one that fits is the metric's.
        return max((name for name in self.metrics if f'{column}.'.startswith(f'{name}.')), key=len, default=None)

    def _whole_set(self):
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, WholeSetRow)}

    @torch.no_grad()
    def process(self, weights_name, indices, paths, target, reconstruction, latents=None, latent_dist=None,
                autoencoder=None):
        """Measure a batch.

        Args:
            weights_name (str): '' for the weights that a user gets, 'raw' for those under the EMA; columns of the
                latter are called 'raw/<metric>'.
            indices (Sequence[int]): positions in the dataset; an image counts once for each ``weights_name``.
            paths (Sequence[str]): relative to the dataset.
            target, reconstruction (Tensor): (B, 3, H, W), about [-1, 1]; each metric sees them in its ``pixels``.
            latents, latent_dist, autoencoder: handed on to the metrics, see EvaluationBatch. Latents may be of the
                target filled up on the right and below.

        Raises:
            UnfitPicture: a metric cannot score images of this size; nothing of the batch is kept.
        """
        paths = tuple(map(printable, paths))
        views = {mode: EvaluationBatch(*find_pixels(mode)(target, reconstruction), latents, paths, latent_dist,
                                       autoencoder)
                 for mode in dict.fromkeys(self._pixels[name] for name in self.metrics)}
        prefix = f'{weights_name}/' if weights_name else ''
        columns, commits = {}, []
        # A published number is one in float32: no autocast of the caller's, no TF32 on the device.
        with torch.autocast(target.device.type, enabled=False), torch.backends.cudnn.flags(
                enabled=True, allow_tf32=False):
            for name, metric in self.metrics.items():
                batch = views[self._pixels[name]]
                if isinstance(metric, WholeSetRow):
                    commits.append(metric.stage(weights_name, indices, batch))
                    continue
                measured = self._measure(name, batch)
                self._parts[name] = list(measured)
                columns.update({f'{prefix}{column}': values for column, values in measured.items()})
            # No metric has refused the batch, so all of them keep it.
            for commit in commits:
                commit()
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
        whole_set = {name: metric.results() for name, metric in self._whole_set().items()}
        gathered = gather((self._records, self._skipped, whole_set))
        rows = _merge(record for records, _, _ in gathered for record in records)
        skipped = dict(sorted(item for _, noted, _ in gathered for item in noted.items()))
        columns = [column for column in rows[0] if column != 'path'] if rows else []
        metrics = {column: self._statistics(column, [row[column] for row in rows]) for column in columns}
        for name in whole_set if rows else ():
            metrics.update(self._of_whole_set(name, [results[name] for _, _, results in gathered]))
        return EvaluationSummary(
            images=len(rows),
            protocol={**(protocol or {}), **self._protocol()},
            metrics=metrics,
            not_computed=dict(self.not_computed),
            skipped=[{'path': path, 'reason': reason} for path, reason in skipped.items()],
            rows=rows)

    def _measure(self, name, batch):
        """Column -> list of one value for each image."""
        measured = self.metrics[name].to(batch.target.device).measure(batch)
        if not isinstance(measured, dict) or not measured:
            measured = {'': measured}
        for values in measured.values():
            tensor = isinstance(values, torch.Tensor)
            if not tensor or values.shape != batch.target.shape[:1] or values.is_complex():
                found = f'{values.dtype} of shape {tuple(values.shape)}' if tensor else f'a {type(values).__name__}'
                raise SettingError(f'metric {name}: measure returned {found} for {len(batch.target)} images; a tensor '
                                   'of one value per image is needed, or a dict of such')
        return {f'{name}.{part}' if part else name: values.tolist() for part, values in measured.items()}

    def _protocol(self):
        rounding = ', rounded to 8 bits' if self.quantize else ''
        return {
            **self.protocol.facts(),
            'quantize': self.quantize,
            'pixel_values': f'clamped to [-1, 1], mapped to [0, 1]{rounding}',
            'mean': 'of per-image values, once over all images',
            'ci95': "half-width of the mean's 95 % confidence interval, Student t, sample standard deviation",
            **{name: self._description(name) for name in self.metrics}}

    def _description(self, name):
        """A metric's line of the protocol, with what differs from the lines above."""
        text, mode, batches = self.metrics[name].description, self._pixels[name], self._mean_of_batches[name]
        if mode != ('rounded' if self.quantize else 'clamped'):
            text += f'; pixel values: {TITLES[mode]}'
        return text if batches is None else f'{text}; mean of the means of batches of {batches} images'

    def _statistics(self, column, values):
        column = column.rpartition('/')[2]
        name = self._metric_of(column)
        entry = {**statistics(values), 'higher_is_better': self._direction(name, column)}
        if self._mean_of_batches[name] is not None:
            entry['mean'] = mean_of_batch_means(values, self._mean_of_batches[name])
        return entry

    def _of_whole_set(self, name, gathered):
        """Columns of a metric that scores all images at once -> their entries."""
        entries = {}
        for weights_name, (images, scores) in self.metrics[name].compute(gathered).items():
            prefix = f'{weights_name}/' if weights_name else ''
            for part, score in scores.items():
                column = f'{name}.{part}' if part else name
                entries[f'{prefix}{column}'] = whole_set_entry(score, self._direction(name, column), images)
        self._parts[name] = list(dict.fromkeys(column.rpartition('/')[2] for column in entries))
        return entries


def write_results(summary, folder):
    """Write ``summary.json`` and ``metrics.csv`` (one row for each image) into ``folder``; for one rank to call."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A metric of the whole set has no value for a single image.
    per_image = [name for name in summary.metrics if any(name in row for row in summary.rows[:1])]
    with atomic_write(folder / 'metrics.csv', 'w') as file:
        writer = csv.DictWriter(file, ['path', *per_image], lineterminator='\n')
        writer.writeheader()
        writer.writerows(summary.rows)
    write_json(folder / 'summary.json', {
        'images': summary.images,
        'protocol': summary.protocol,
        'metrics': summary.metrics,
        'not_computed': summary.not_computed,
        'skipped': summary.skipped})


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
