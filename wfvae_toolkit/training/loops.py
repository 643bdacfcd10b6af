"""Loops over updates and over validation images."""

import signal
import time
from dataclasses import replace

import torch
from mmengine.runner import BaseLoop

from wfvae_toolkit.datasets import build_dataloader
from wfvae_toolkit.evaluation import ReconstructionEvaluator, build_evaluation_data, evaluate_protocols
from wfvae_toolkit.registry import EVALUATORS, LOOPS, find_part
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import NotFinite, SettingError, StorageError, UserError, is_number, located
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.utils.seeding import mix_seed
from wfvae_toolkit.utils.signals import StopRequest

from .data_report import TrainingData, ValidationData
from .optimizers import LOWEST_SCALE
from .post_mortem import save_post_mortem
from .stages import check_normalized, pictures_between, read_stages, stage_at

_GRADIENT = 'gradient_norm/'
_UNREAD = 2**16  # above twice any signal's number


@LOOPS.register_module()
class UpdateLoop(BaseLoop):
    """One iteration is one update of weights; it reads its own ``accumulation`` micro-batches.

    After SIGTERM, SIGINT or SIGUSR1 on any rank, all ranks finish the current iteration, and ``run`` returns as at
    the end. ``stopped_by`` is then the signal's number, else 0. ``running`` is True inside ``run``.

    If one rank cannot read pictures, of training or of a validation, all ranks stop in the same way: they write the
    last checkpoint, then ``run`` raises.

    A hook ends the run by ``stop_training = True`` and puts its name into ``early_stop``. Checkpoints store that name;
    a resumed run continues only if ``ignore_early_stop`` is set.

    Args:
        max_iters (int): updates, both turns counted.
        val_interval (int): updates between validations. A validation always follows the last update.
        accumulation (int): micro-batches per update.
        max_bad_files (int): the run stops after more unreadable files than this.
        stages (list[dict]): ``dict(start_iter=, size=, batch_size=, accumulation=)`` of pictures that grow, the first
            from iteration 0; see `Stage`. ``size`` is that of the dataset's crops. A stage takes what it leaves out
            from the one before, and the first from ``train_dataloader.batch_size`` and ``accumulation``.
        max_skipped (int): the run stops after this many updates in a row are skipped because a loss term or a gradient
            is not finite. In fp16, if only gradients overflow, their scale is lowered; that is not a skipped update.

    Raises:
        SettingError: a number is too small.
    """

    max_epochs = 1
    val_begin = 1
    stop_training = False
    early_stop = None
    ignore_early_stop = False
    running = False

    def __init__(self, runner, dataloader, max_iters: int, val_interval=1000, accumulation=1, max_bad_files=100,
                 max_skipped=20, stages: list | None = None):
        for name, value in dict(max_iters=max_iters, val_interval=val_interval, accumulation=accumulation,
                                max_skipped=max_skipped).items():
            if not is_number(value, 1, whole=True):
                raise SettingError(f'train_cfg.{name}={value!r}: a positive integer is needed')
        if not is_number(max_bad_files, 0, whole=True):
            raise SettingError(f'train_cfg.max_bad_files={max_bad_files!r}: an integer of 0 or more is needed')
        _check_runner(runner)
        # BaseLoop's constructor would build MMEngine's sampler, which cannot start at a position.
        self._runner = runner
        self.stages = read_stages(stages, dataloader.get('batch_size'), accumulation)
        check_normalized(self.stages, runner.model.normalize)
        for stage in self.stages:
            if stage.start_iter >= max_iters:
                runner.logger.warning(f'train_cfg.stages: the one from iteration {stage.start_iter} is not reached, '
                                      f'because train_cfg.max_iters={max_iters}')
        self._loader_cfg = dataloader
        self.dataloader = self._build_dataloader(self.stages[0])
        self.max_iters = max_iters
        self.val_interval = val_interval
        self.iter = 0
        self.consumed = 0  # samples of the global order, over all ranks
        self.max_skipped = max_skipped
        self.skipped = 0  # updates that were not made, in total
        self.skipped_in_a_row = 0
        self._batches = None  # iterator of the loader
        self._unread = None  # why pictures cannot be read
        self._halvings = {}  # turn -> updates in a row for which fp16's gradient scale was too large
        self.stopped_by = 0
        self.validated_at = 0  # iteration of the newest logged scores; LoggerHook sets it
        self.data_seconds = 0.0  # time spent waiting for batches since the last log row
        self._data = TrainingData(runner, len(self.dataloader.dataset), max_bad_files)

    @property
    def epoch(self):
        """Number of complete passes over the dataset."""
        return self.consumed // self.dataloader.sampler.length

    @property
    def accumulation(self):
        """Micro-batches of an update, in the stage of the present iteration."""
        return stage_at(self.stages, self.iter).accumulation

    @property
    def images_per_iteration(self):
        stage = stage_at(self.stages, self.iter)
        return stage.batch_size * stage.accumulation * distributed.world_size()

    def images_between(self, first, end):
        """Images of the iterations from ``first`` to ``end`` - 1, over all ranks."""
        return pictures_between(self.stages, first, end) * distributed.world_size()

    def _build_dataloader(self, stage, dataset=None):
        """Loader of a stage; of the ``dataset`` of the stage before, which then crops to another size."""
        cfg = {**self._loader_cfg, 'batch_size': stage.batch_size}
        loader = build_dataloader(cfg, training=True, seed=self.runner.seed, rank=distributed.rank(),
                                  world_size=distributed.world_size(), say=self.runner.logger.warning,
                                  accumulation=stage.accumulation, size=stage.size, dataset=dataset)
        self._built_for = stage
        return loader

    def _enter_stage(self):
        """Set size and batch of the present iteration; returns whether the loader is another one."""
        stage = stage_at(self.stages, self.iter)
        if stage == self._built_for:
            return False
        self.dataloader = self._build_dataloader(stage, self.dataloader.dataset)
        size = '' if stage.size is None else f'crops of {stage.size} px, '
        self.runner.logger.info(f'from iteration {stage.start_iter} on: {size}batches of {stage.batch_size}, '
                                f'{stage.accumulation} an update')
        self._say_sizes()
        self._set_position()
        return True

    def _say_sizes(self):
        if distributed.is_main():
            for line in getattr(self.dataloader.dataset, 'describe_sizes', list)():
                self.runner.logger.info(f'training pictures: {line}')

    def state(self):
        """Keyword arguments for ``restore``."""
        return {'consumed': self.consumed, 'skipped': self.skipped, 'skipped_in_a_row': self.skipped_in_a_row,
                'early_stop': self.early_stop}

    def restore(self, iteration, consumed, skipped, skipped_in_a_row=0, early_stop=None):
        """Continue after ``iteration`` updates and ``consumed`` samples, without reading those samples again."""
        self.early_stop, self.stop_training = early_stop, early_stop is not None
        self.iter, self.consumed = iteration, consumed
        self.skipped, self.skipped_in_a_row = skipped, skipped_in_a_row

    def run(self):
        """Train to ``max_iters``; returns the model."""
        self.running, self._unread = True, None
        try:
            return self._run()
        finally:
            self.running = False
            self._batches = None  # ends its workers

    def _run(self):
        runner = self.runner
        with StopRequest() as request:
            runner.call_hook('before_train')
            runner.call_hook('before_train_epoch')
            runner.model.train()
            if len(self.stages) > 1:
                self._built_for = None  # the rehearsal has set the sizes of all stages
            if not self._enter_stage():
                self._say_sizes()
                self._set_position()
            if 0 < self.iter != self.validated_at and self._validation_is_due():
                # The earlier run ended after it wrote this checkpoint and before it logged the scores.
                self._validate()
            if self.ignore_early_stop:
                self.early_stop, self.stop_training = None, False
            if self.iter >= self.max_iters:
                runner.logger.info(f'nothing to do: {self.iter} of {self.max_iters} iterations are done; a larger '
                                   'train_cfg.max_iters goes on')
            begun_at = self.iter
            micro_batches = self._read_and_agree(request)
            while micro_batches:
                if self._run_iteration(micro_batches) and self._validation_is_due():
                    self._validate()
                micro_batches = self._read_and_agree(request)
            if self._unread is not None and self.iter == begun_at:
                raise self._unread
            self._note_early_stop()
            runner.call_hook('after_train_epoch')
            runner.call_hook('after_train')
            self._data.finish()
            if distributed.is_main():
                for line in getattr(self.dataloader.dataset, 'closing_remarks', list)():
                    runner.logger.info(f'training: {line}')
        if self._unread is not None:
            runner.logger.warning(f'stopped after iteration {self.iter} of {self.max_iters}, because pictures cannot '
                                  'be read; the same command with --resume goes on')
            raise self._unread
        if self.early_stop:
            runner.logger.warning(f'stopped early by {self.early_stop} after iteration {self.iter} of '
                                  f'{self.max_iters}; --resume does not train on from here, --resume-drop '
                                  'early_stop does')
        elif self.stopped_by:
            runner.logger.warning(f'stopped by {signal.Signals(self.stopped_by).name} after iteration {self.iter} of '
                                  f'{self.max_iters}; the same command with --resume goes on')
        return runner.model

    def _read_and_agree(self, request):
        """Micro-batches of the next iteration; None if it is not made, on all ranks."""
        if self._unread is not None:
            return None
        micro_batches, told = None, 0
        if self.iter < self.max_iters and not self.stop_training:
            try:
                micro_batches = self._read()
            except Exception as error:
                self._unread, told = error, _UNREAD
        # Only one rank may have the signal or the error. All must stop together: the others would wait for it.
        told = distributed.largest(max(told, 2 * request.signal + bool(self.stop_training)))
        if told == _UNREAD:
            self._unread = _of_any_rank(self._unread)
            return None
        self.stopped_by, self.stop_training = told // 2, told > 0
        return None if self.stop_training else micro_batches

    def _read(self):
        if self._enter_stage() or self._batches is None:
            self._batches = iter(self.dataloader)
        start = time.perf_counter()
        micro_batches = [self._next_batch() for _ in range(self.accumulation)]
        self.data_seconds += time.perf_counter() - start
        for batch in micro_batches:
            self._data.add(batch)
        return micro_batches

    def _next_batch(self):
        return next(self._batches)

    def _set_position(self):
        """Begin with the sample after the consumed ones, or where an update of one size may begin."""
        begin = self.dataloader.sampler.aligned(self.consumed)
        if begin != self.consumed:
            self.runner.logger.info(f'{begin - self.consumed} samples are passed over, so that all pictures of an '
                                    'update have one size: an update had another number of them before')
        self.consumed = begin
        self.dataloader.sampler.set_position(begin)

    def _note_early_stop(self):
        """Set ``early_stop`` before the last checkpoint. A run that reached ``max_iters`` did not stop early."""
        if self.iter >= self.max_iters:
            self.early_stop = None
        elif self.stop_training and not self.stopped_by:
            self.early_stop = self.early_stop or 'train_loop.stop_training'

    def _validation_is_due(self):
        return self.runner.val_loop is not None and (
            self.iter % self.val_interval == 0 or self.iter == self.max_iters)

    def _validate(self):
        self._data.name_bad_files()
        loop = self.runner.val_loop
        try:
            loop.run()
        except Exception as error:
            if error is not loop.unread:
                raise
            self._unread = error
        self.runner.model.train()

    def _run_iteration(self, micro_batches):
        """Returns whether the update was made."""
        runner, iteration = self.runner, self.iter
        runner.call_hook('before_train_iter', batch_idx=iteration)
        # Dropout and whatever else draws from torch's generator: a function of the iteration, not of history.
        torch.manual_seed(mix_seed('iteration', runner.seed, iteration, distributed.rank()))
        turns = runner.model.turns_of(iteration)
        update = runner.model.train_step(micro_batches, runner.optim_wrapper, turns)
        if update.skipped:
            self._count_skipped(update, micro_batches)
            return False
        self.consumed += self.images_per_iteration
        self.skipped_in_a_row = 0
        self._say_lowered_scales()
        # MMEngine's hooks expect runner.iter to be the finished iteration's index here.
        runner.call_hook('after_train_iter', batch_idx=iteration, data_batch=micro_batches, outputs=update)
        self.iter = iteration + 1
        return True

    def _count_skipped(self, update, micro_batches):
        """No weight changed, so the iteration does not count: the next images use its number, rate and turn."""
        terms = distributed.gather(update.skipped)
        if self.runner.model.precision == 'fp16' and all(term.startswith(_GRADIENT) for term in terms):
            self._lower_scale(update, micro_batches)
        else:
            self._skip(_first_of_ranks(terms), update, micro_batches)
        self.consumed += self.images_per_iteration

    def _lower_scale(self, update, micro_batches):
        """Only gradients overflowed float16, as usual while a new run finds its scale. The scale has been halved."""
        for turn in update.turns:
            if update.log[f'{_GRADIENT}{turn}'].isfinite():
                continue
            self._halvings[turn] = self._halvings.get(turn, 0) + 1
            if self.runner.optim_wrapper[turn].scale < LOWEST_SCALE:
                folder = save_post_mortem(self.runner, self.iter, update, micro_batches)
                raise NotFinite(f'iteration {self.iter}: the gradient of the {turn} is not finite in fp16 at any scale '
                                f'down to {LOWEST_SCALE:.2g}, although every term is; use model.precision=bf16 or '
                                f'fp32. The last batch and a checkpoint to replay it from are in {folder}')

    def _say_lowered_scales(self):
        for turn, count in self._halvings.items():
            scale = self.runner.optim_wrapper[turn].scale
            self.runner.logger.info(f'fp16: the scale of the gradients of the {turn} went down from '
                                    f'{scale * 2**count:g} to {scale:g}; {count} updates were tried again on the next '
                                    'images, which does not count as skipped')
        self._halvings.clear()

    def _skip(self, term, update, micro_batches):
        """Count a skipped update; NotFinite after ``max_skipped`` in a row."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        self.runner.logger.warning(f'update {self.iter + 1} skipped: {term} is not finite '
                                   f'({self.skipped_in_a_row} in a row, {self.skipped} in all)')
        if self.skipped_in_a_row >= self.max_skipped:
            folder = save_post_mortem(self.runner, self.iter, update, micro_batches)
            raise NotFinite(f'{self.skipped_in_a_row} updates in a row skipped at iteration {self.iter}: '
                            f'{term} was the first that was not finite; resume from an earlier checkpoint with a '
                            'lower rate or in fp32, or raise train_cfg.max_skipped. The last batch and a checkpoint '
                            f'to replay it from are in {folder}')


def _of_any_rank(error):
    """The error of this rank; if it has none, a StorageError about that of another rank; None: no rank has one."""
    texts = distributed.gather(error and f'{type(error).__name__}: {error}')
    rank = next((rank for rank, text in enumerate(texts) if text), None)
    return error if rank is None or error else StorageError(f'rank {rank} stopped by {texts[rank]}')


def _first_of_ranks(terms):
    """The first rank's bad loss term. Gradients are summed over ranks, so only a loss term shows the rank at fault."""
    rank = next((rank for rank, name in enumerate(terms) if not name.startswith(_GRADIENT)), 0)
    return f'{terms[rank]} on rank {rank}' if distributed.is_distributed() else terms[rank]


@LOOPS.register_module()
class EvaluationLoop(BaseLoop):
    """Scores the averaged and the raw weights on every validation image.

    The log names a file that cannot be scored, and ``bad_files.jsonl`` lists it. If there are such files, the metric
    ``not_scored`` is their number. Calls ``after_val_iter`` with ``outputs=dict(target=, reconstructions=)`` and
    ``after_val_epoch`` with ``metrics``: name -> mean, with the prefix ``raw/`` for raw weights. ``summary`` is the
    EvaluationSummary of the newest run; ``unread`` is the error with which reading ended on any rank, or None. It is
    raised on all ranks.

    Raises, while it runs:
        NothingScored: no image could be scored.
    """

    def __init__(self, runner, dataloader, evaluator):
        _check_runner(runner)
        self._runner = runner
        with located('val_evaluator'):
            self.evaluator = _build_evaluator(evaluator)
        self.data = build_evaluation_data(dataloader, {'': self.evaluator}, say=runner.logger.warning)
        self.dataloader = self.data.loader
        self._data = ValidationData(runner)
        for name, reason in self.evaluator.not_computed.items():
            runner.logger.warning(f'val_evaluator.metrics.{name} is not measured: {reason}')
        self.summary = self.unread = None

    def run(self):
        """Returns the means."""
        runner = self.runner
        raw, averaged = runner.model.autoencoder, runner.averaged_autoencoder
        autoencoders = {'': raw} if averaged is None else {'': averaged, 'raw': raw}
        runner.call_hook('before_val')
        runner.call_hook('before_val_epoch')
        runner.model.eval()
        self.summary = self._score(autoencoders)
        left_out = self._data.add(self.summary)
        metrics = {name: row['mean'] for name, row in self.summary.metrics.items() if row['mean'] is not None}
        if left_out:
            metrics['not_scored'] = left_out
        runner.call_hook('after_val_epoch', metrics=metrics)
        runner.call_hook('after_val')
        return metrics

    def _score(self, autoencoders):
        """EvaluationSummary of all ranks; if one cannot read its images, an error on all, which else would wait."""
        self.unread = summary = None
        try:
            summary = evaluate_protocols(autoencoders, replace(self.data, loader=self._batches()),
                                         {'': self.evaluator}, default_device(), on_batch=self._show)['']
        except UserError:
            if self.unread is None:  # else it follows from the missing images
                raise
        self.unread = _of_any_rank(self.unread)
        if self.unread is not None:
            raise self.unread
        return summary

    def _batches(self):
        batches = enumerate(progress(self.dataloader, 'batches scored', len(self.dataloader)))
        while True:
            try:
                number, batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                self.unread = error
                return
            self.runner.call_hook('before_val_iter', batch_idx=number, data_batch=batch)
            yield batch

    def _show(self, name, number, batch, target, reconstructions):
        self.runner.call_hook('after_val_iter', batch_idx=number, data_batch=batch,
                              outputs=dict(target=target, reconstructions=reconstructions))


def _check_runner(runner):
    if not hasattr(runner, 'averaged_autoencoder'):
        raise SettingError(f'{type(runner).__name__}: this config is run by '
                           'wfvae_toolkit.training.TrainingRunner.from_cfg(cfg)')


def _build_evaluator(cfg):
    if not isinstance(cfg, dict) or not isinstance(cfg.get('metrics'), dict):
        raise SettingError("use dict(type='ReconstructionEvaluator', metrics=dict(PSNR=dict(type='PSNR'))); a "
                           'mmengine.evaluator.BaseMetric may be a row of metrics')
    kind = cfg.get('type')
    cls = find_part(kind, EVALUATORS) if isinstance(kind, str) else kind
    if not (isinstance(cls, type) and issubclass(cls, ReconstructionEvaluator)):
        raise SettingError(f'type={kind!r}: ReconstructionEvaluator or a child of it is needed')
    return EVALUATORS.build(cfg)
