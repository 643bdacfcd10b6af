"""When checkpoints are written and which are kept."""

from pathlib import Path

from mmengine.hooks import Hook

from wfvae_toolkit.checkpoints import (
    LAST,
    CheckpointError,
    list_checkpoints,
    load_training_checkpoint,
    save_training_checkpoint,
)
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import WriteError, atomic_write
from wfvae_toolkit.visualization.records import read_records


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Writes ``iter_N.pth`` every ``interval`` updates and at the end; older ones go only after the new one is whole.

    ``last_checkpoint`` in the run's folder holds the newest file's name. The end may be a stop at any iteration. A
    checkpoint that cannot be written is an error in the log, and the run goes on to the next; where that fails too,
    or at the end of the run, it ends with a WriteError.

    Args:
        interval (int): updates between checkpoints.
        max_keep_ckpts (int): how many to keep; 0 keeps all.
        save_best (str): a metric whose best checkpoint is kept as ``best_METRIC.pth``, such as ``'PSNR'``.
        best_is_higher (bool): whether a higher value is better.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval=1000, max_keep_ckpts=3, save_best=None, best_is_higher=True):
        if interval < 1 or max_keep_ckpts < 0:
            raise SettingError(f'CheckpointHook: interval={interval} (1 or more), max_keep_ckpts={max_keep_ckpts} '
                               '(0 keeps all)')
        self.interval = interval
        self.max_keep_ckpts = max_keep_ckpts
        self.save_best = save_best
        self.best_is_higher = best_is_higher
        self.best = None
        self.failed = None  # the WriteError of the newest checkpoint

    def before_run(self, runner):
        metrics = getattr(getattr(runner.val_loop, 'evaluator', None), 'metrics', {})
        known = [*metrics, *(f'raw/{name}' for name in metrics)]
        if self.save_best is not None and metrics and self.save_best not in known:
            raise SettingError(f'CheckpointHook: save_best={self.save_best!r} is never measured; one of '
                               f'{", ".join(known)}, or None')

    def before_train(self, runner):
        self._saved = self._place(runner)
        # A checkpoint is written before the validation at its iteration, whose score it therefore lacks.
        scores = [(row[self.save_best], row['iteration']) for row in read_records(runner.work_dir)
                  if 0 < row['iteration'] <= runner.iter and row['phase'] == 'val'
                  and row.get(self.save_best) is not None]
        best, iteration = self.best, 0
        if scores:
            # Of equal scores the first.
            best, iteration = (max if self.best_is_higher else min)(scores, key=lambda score: score[0])
        missing = distributed.is_main() and iteration == runner.iter > 0 and not self._holds_best(runner)
        self.best, missing = distributed.of_main((best, missing))
        if missing:
            # The run ended after it had logged this score and before it kept the weights.
            self._save_best(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        iteration = batch_idx + 1
        if iteration % self.interval == 0 or iteration == runner.max_iters:
            self.save(runner, iteration, must=iteration == runner.max_iters)

    def after_train(self, runner):
        if self._place(runner) != self._saved:
            self.save(runner, runner.iter, must=True)

    def save(self, runner, iteration, must=False):
        """All ranks call it; rank 0 writes. WriteError on all of them if it fails a second time in a row, or ``must``
        not fail at all."""
        path = Path(runner.work_dir) / f'iter_{iteration}.pth'
        checkpoint = runner.state(iteration)
        error = None
        if distributed.is_main():
            try:
                self._save(runner, checkpoint, path)
            except WriteError as failure:
                error = failure
        error, before = distributed.of_main(error), self.failed
        self.failed = error
        if error is None:
            self._saved = iteration, runner.train_loop.consumed
        elif must or before is not None:
            raise error
        else:
            runner.logger.error(f'{error}. The run goes on, and ends if the next checkpoint, in {self.interval} '
                                'iterations, cannot be written either; earlier ones are as they were')

    def _save(self, runner, checkpoint, path):
        save_training_checkpoint(checkpoint, path, runner.model.autoencoder_config)
        with atomic_write(path.parent / LAST, 'w') as file:
            file.write(path.name + '\n')
        if self.max_keep_ckpts:
            # Higher numbers are of another run in this folder: not ours to count or remove.
            paths = list_checkpoints(path.parent)
            for old in paths[:paths.index(path) + 1][:-self.max_keep_ckpts]:
                old.unlink()
        runner.logger.info(f'saved {path}')

    def after_val_epoch(self, runner, metrics=None):
        value = (metrics or {}).get(self.save_best)
        if value is None:
            return
        if self.best is None or (value > self.best if self.best_is_higher else value < self.best):
            self.best = value
            self._save_best(runner)

    def _save_best(self, runner):
        path = self._best_path(runner)
        checkpoint = runner.state(runner.iter)
        if distributed.is_main():
            try:
                save_training_checkpoint(checkpoint, path, runner.model.autoencoder_config)
            except WriteError as error:
                runner.logger.error(f'{error}. The run goes on without')
            else:
                runner.logger.info(f'saved {path}: {self.save_best} {self.best:.4f} is the best so far')

    def _best_path(self, runner):
        return Path(runner.work_dir) / f'best_{self.save_best.replace("/", "_")}.pth'

    def _holds_best(self, runner):
        """Whether the file of the best is of the runner's iteration."""
        try:
            return load_training_checkpoint(self._best_path(runner), 'meta')['meta']['iteration'] == runner.iter
        except CheckpointError:
            return False

    def _place(self, runner):
        return runner.iter, runner.train_loop.consumed

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['best'] = self.best

    def after_load_checkpoint(self, runner, checkpoint):
        self.best = checkpoint.get('best')
