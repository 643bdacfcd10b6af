"""Memory forecast of a config that is not running, and its check against the memory of a real training."""

import copy
import ctypes
import gc
import inspect
import multiprocessing
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config

from wfvae_toolkit.datasets.buckets import AspectBuckets, allowed_sizes, resized
from wfvae_toolkit.datasets.transforms import crop_sizes_of
from wfvae_toolkit.losses.perceptual import _PerceptualLoss
from wfvae_toolkit.models.perceptual import lpips, stlpips
from wfvae_toolkit.models.perceptual.network import PerceptualNetwork
from wfvae_toolkit.models.sizes import size_text
from wfvae_toolkit.registry import MODELS, TRANSFORMS
from wfvae_toolkit.training import TrainingRunner
from wfvae_toolkit.training.memory import (
    AFTER,
    BEFORE,
    CHECKPOINT,
    DISCRIMINATOR,
    JOINT,
    VALIDATION,
    Load,
    count_memory,
    largest_size,
    turns_of,
)
from wfvae_toolkit.training.memory_fit import MOST, largest_batch, ways_to_fit
from wfvae_toolkit.training.stages import read_stages
from wfvae_toolkit.utils.errors import SettingError, located

from .benchmark.networks import with_available_perceptual
from .benchmark.timing import highest_resident, resident_bytes
from .kernels import WorkMeter

_FEW = 6  # iterations that reach every phase
_UNITS = {'B': 1, **{f'{prefix}B': 1000**power for power, prefix in enumerate('KMGT', 1)},
          **{f'{prefix}iB': 1024**power for power, prefix in enumerate('KMGT', 1)}}


class _UnloadedLoss(_PerceptualLoss):
    """LPIPSLoss or STLPIPSLoss without its weights: the same shapes."""

    def __init__(self, net, shift_tolerant, weight=1.0, crop=None):
        super().__init__(_unloaded(net, shift_tolerant), weight, crop)


def _unloaded(net, shift_tolerant):
    least = (stlpips if shift_tolerant else lpips).MIN_SIZES
    if net not in least:
        raise SettingError(f'net={net!r}: use one of {", ".join(map(repr, least))}')
    return PerceptualNetwork(net, shift_tolerant, least[net])


def parse_bytes(text):
    """'80GB' or '79.6GiB' -> bytes; SettingError for anything else."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?i?B)', text)
    if not match or match[2] not in _UNITS:
        raise SettingError(f'{text!r}: write a number and a unit, such as 80GB (10^9 bytes) or 79.6GiB (2^30)')
    return int(float(match[1]) * _UNITS[match[2]])


class Forecaster:
    """Counts the memory of a config's training on one device; neither its data nor weights of LPIPS are needed.

    Args:
        cfg (Config): of ``load_config``.
        world_size (int): processes of the run.

    Attributes:
        stages (list[Stage]): that the run reaches.
        loads (list[Load]): one for each stage.
        load (Load): of the first stage, which is the whole run where there are no others.
        model (AutoencoderTraining): on the meta device.
    """

    def __init__(self, cfg, world_size=1):
        settings = cfg.model.to_dict()
        settings['losses'] = {name: _without_weights(row) for name, row in (settings.get('losses') or {}).items()}
        with torch.device('meta'), torch.random.fork_rng(devices=[]), located('model'):
            self.model = MODELS.build({**settings, 'compile': None}).train()
            self._networks = _scoring_networks(cfg)
        self._optim_wrapper = cfg.optim_wrapper.to_dict()
        self._counted = {}
        hooks = cfg.get('default_hooks') or {}
        loader, validation = cfg.train_dataloader, cfg.get('val_dataloader')
        if crop_size(loader.dataset) is None:
            raise SettingError('train_dataloader.dataset.pipeline does not end in a crop, so that pictures may have '
                               'any size; add dict(type="CenterCrop", size=PX)')
        stages = read_stages(cfg.train_cfg.get('stages'), loader.batch_size, cfg.train_cfg.get('accumulation', 1))
        self.stages = [stage for stage in stages if stage.start_iter < cfg.train_cfg.max_iters]
        run = Load(loader.batch_size, 0, val_batch=validation.get('batch_size', 1) if validation else None,
                   val_size=crop_size(validation.dataset) if validation else None,
                   average=hooks.get('ema') is not None,
                   start_iter=(hooks.get('discriminator') or {}).get('start_iter', 0), world_size=world_size)
        with located('train_dataloader.dataset'):
            self.loads = [run.in_stage(stage, crop_size(loader.dataset, stage.size)) for stage in self.stages]
        self.load = self.loads[0]

    def __call__(self, load=None, work=False):
        """Forecast of a Load, None: of the first stage; with ``work`` each phase has its Counter of a `WorkMeter`."""
        load = load or self.load
        if (load, work) not in self._counted:
            self._counted[load, work] = count_memory(self.model, self._optim_wrapper, load, networks=self._networks,
                                                     meter=WorkMeter() if work else None)
        return self._counted[load, work]

    def largest_batch(self, limit, load=None):
        """How many images of a micro-batch, otherwise of a Load, fit into ``limit`` bytes, as text."""
        load = load or self.load
        # Without the turns before the discriminator starts: they take less.
        found = largest_batch(
            lambda batch: self(replace(load, batch=batch, start_iter=0)).largest.peak_bytes, limit)
        return f'{MOST} or more' if found == MOST else str(found or 'none')

    def ways_to_fit(self, limit, load=None):
        """Changed settings with which a Load fits into ``limit`` bytes, as sentences."""
        factor = self.model.autoencoder.downsample_factor
        return ways_to_fit(load or self.load, self, limit, self.model.precision, factor)


def crop_size(dataset, edge=None):
    """Edge in px of the crops of a dataset's config, or (height, width) of the largest; None if pictures have any size.

    Of `AspectBuckets` it is the largest size that can be chosen: which sizes are, depends on the pictures. ``edge`` in
    px is that of a stage of growing sizes.
    """
    if dataset['type'] == 'AspectBuckets':
        defaults = inspect.signature(AspectBuckets).parameters
        settings = {name: dataset.get(name, defaults[name].default)
                    for name in ('size', 'multiple_of', 'buckets', 'max_ratio')}
        if edge is not None:
            settings = resized(settings, edge)
        return largest_size([size[::-1] for size in allowed_sizes(**settings)])
    if edge is not None:
        return edge
    if dataset['type'] == 'SyntheticImages' and not dataset.get('pipeline'):
        return dataset.get('size', 256)
    return largest_size(crop_sizes_of([TRANSFORMS.build(dict(step)) for step in dataset.get('pipeline', ())]))


def _without_weights(row):
    if row is None or row.get('type') not in ('LPIPSLoss', 'STLPIPSLoss'):
        return row
    shift_tolerant = row['type'] == 'STLPIPSLoss'
    settings = {name: value for name, value in row.items() if name not in ('type', 'trunk_weights')}
    return {'net': 'alex' if shift_tolerant else 'vgg', **settings, 'type': _UnloadedLoss,
            'shift_tolerant': shift_tolerant}


def _scoring_networks(cfg):
    """Networks of the validation's LPIPS and STLPIPS, without weights."""
    metrics = (cfg.get('val_evaluator') or {}).get('metrics') or {}
    kinds = [(row.get('net', 'alex'), row['type'] == 'STLPIPS') for row in metrics.values()
             if row is not None and row['type'] in ('LPIPS', 'STLPIPS')]
    return [_unloaded(net, shift_tolerant) for net, shift_tolerant in kinds]


# measured ---------------------------------------------------------------------------------------

def with_stand_ins(cfg):
    """A config that trains here for a few iterations: drawn pictures, and perceptual networks whose weights are here.

    Its sizes, batches and networks are the config's own. It reaches every phase within six iterations.
    """
    if cfg.train_cfg.get('stages'):
        raise SettingError('train_cfg.stages: the check trains one size; set train_cfg.stages=None, '
                           'train_dataloader.batch_size and the size of the crops')
    cfg = copy.deepcopy(cfg)
    for loader, length in ((cfg.train_dataloader, 64), (cfg.get('val_dataloader'), 2)):
        if loader is not None:
            size = crop_size(loader.dataset)
            if not isinstance(size, int):
                raise SettingError(f'{loader.dataset.type}: the check trains and scores square crops of one size; '
                                   'give the dataset a pipeline that ends in one')
            loader.update(num_workers=0, persistent_workers=False)
            loader.pop('dataset')
            loader.dataset = dict(type='SyntheticImages', size=size, length=length)
    cfg.model.losses = with_available_perceptual(cfg.model.losses)
    start = (cfg.default_hooks.get('discriminator') or {}).get('start_iter', 0)
    cfg.train_cfg.update(max_iters=_FEW, val_interval=_FEW)
    cfg.log_level, cfg.visualizer, cfg.load_from = 'WARNING', dict(type='Visualizer', vis_backends=[]), None
    for name in ('pictures', 'curves', 'flat_fields', 'memory'):
        cfg.default_hooks[name] = None
    if start:
        cfg.default_hooks.discriminator.update(start_iter=2, train_iter=2)
    if cfg.default_hooks.get('checkpoint'):
        cfg.default_hooks.checkpoint.update(interval=_FEW, save_best=None)
    return cfg


def measure_training(cfg):
    """Train a config of `with_stand_ins` in a fresh process; phase -> peak bytes above those before iteration 0.

    The resident memory of a process on Linux. glibc is told to return freed memory at once; otherwise the memory of
    one phase would count in the next.
    """
    told = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536', 'MALLOC_ARENA_MAX': '1'}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            return pool.apply(_train_and_measure, (cfg.to_dict(), torch.get_num_threads()))
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _train_and_measure(settings, threads):
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        runner = TrainingRunner.from_cfg(Config({**settings, 'work_dir': folder, 'launcher': 'none'}))
        peaks = _Peaks(runner)
        runner.train()
    return peaks.above_start


class _Peaks:
    """Wraps the phases of a built runner and keeps the highest resident memory of each."""

    def __init__(self, runner):
        self._runner, self._start, self.above_start = runner, None, {}
        self._wrap(runner.model, 'train_step', self._turn)
        if runner.val_loop is not None:
            self._wrap(runner.val_loop, 'run', lambda: VALIDATION)
        for hook in runner.hooks:
            if hasattr(hook, 'save'):
                self._wrap(hook, 'save', lambda: CHECKPOINT)

    def _turn(self):
        model = self._runner.model
        turns, adversarial = model.turns_of(self._runner.iter), model.discriminator_started
        start = 0 if adversarial and model.discriminator is not None else 1
        return next(name for name, of_phase, counts in turns_of(model, start)
                    if of_phase == turns and counts == (adversarial and model.discriminator is not None))

    def _wrap(self, owner, method, name):
        work = getattr(owner, method)

        def measured(*arguments, **options):
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            if self._start is None:
                self._start = resident_bytes()
            results = []
            phase = name()
            peak = highest_resident(lambda: results.append(work(*arguments, **options)))
            self.above_start[phase] = max(self.above_start.get(phase, 0), peak - self._start)
            return results[0]
        setattr(owner, method, measured)


def compare(forecast, measured):
    """Forecast, and phase -> bytes of `measure_training` -> Markdown table, MiB beyond what is there at the start."""
    lines = ['| phase | counted MiB | measured MiB | counted / measured |', '| --- | --- | --- | --- |']
    for phase in forecast.phases:
        if phase.name in measured:
            counted, found = added_bytes(phase), measured[phase.name]
            lines.append(f'| {phase.name} | {counted / 2**20:.0f} | {found / 2**20:.0f} | {counted / found:.2f} |')
    return '\n'.join(lines)


def added_bytes(phase):
    """What a phase of a Forecast takes beyond weights and average, which are there before the first iteration."""
    return sum(count for kind, count in phase.parts.items()
               if kind not in ('parameters', 'frozen networks', 'average'))


def table(configs, limits, world_size=1):
    """Lines of a Markdown table, made one by one: config -> peaks in GiB, and the largest batch for each limit.

    A config with ``train_cfg.stages`` has a line for each.

    Args:
        configs (dict[str, Config]): name or path -> config.
        limits (dict[str, int]): name of a size -> bytes.
        world_size (int): processes of the runs.
    """
    names = [BEFORE, AFTER, DISCRIMINATOR, JOINT, VALIDATION, CHECKPOINT]
    yield f'| config | micro-batch | {" | ".join(names)} | {" | ".join(f"largest batch, {text}" for text in limits)} |'
    yield '| --- ' * (2 + len(names) + len(limits)) + '|'
    for path, cfg in configs.items():
        forecaster = Forecaster(cfg, world_size)
        for load in forecaster.loads:
            peaks = {phase.name: f'{phase.peak_bytes / 2**30:.2f}' for phase in forecaster(load).phases}
            batches = [forecaster.largest_batch(limit, load) for limit in limits.values()]
            yield (f'| {Path(path).stem} | {load.batch} x {size_text(load.shape)} px, {forecaster.model.precision} | '
                   f'{" | ".join(peaks.get(name, "") for name in names)} | {" | ".join(batches)} |')
