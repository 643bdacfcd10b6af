"""Write checkpoints at intervals, and delete old ones."""

from pathlib import Path

from mmengine.hooks import Hook

from wfvae_toolkit.checkpoints import LAST, list_checkpoints, save_training_checkpoint
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError, is_number, located
from wfvae_toolkit.utils.files import WriteError, atomic_write

from .best import BestCheckpoint, higher_is_better


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Writes ``iter_N.pth`` every ``interval`` updates and at the end; then deletes older ones.

    ``last_checkpoint`` in the run's folder holds the newest file's name. A run that is stopped also writes a last
    checkpoint. If a checkpoint cannot be written, the log says so and the run continues. If the next one, or the last
    one of the run, cannot be written either, the run ends with a WriteError.

    Args:
        interval (int): updates between checkpoints.
        max_keep_ckpts (int): how many to keep; 0 or -1 keeps all.
        save_best (str | list[str]): columns of the validation whose best checkpoints are kept as
            ``best_COLUMN.pth``: ``'PSNR'``, ``['PSNR', 'raw/LPIPS']``; ``'auto'``: the first metric. The metric
            itself says whether higher or lower is better.
        best_is_higher (bool): the direction that you expect; an error if a metric of ``save_best`` says otherwise.

    Raises:
        SettingError: an invalid setting; before training, a column that is not measured or has no better direction.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval=1000, max_keep_ckpts=3, save_best=None, best_is_higher=None):
        if not is_number(interval, 1, whole=True) or not is_number(max_keep_ckpts, -1, whole=True):
            raise SettingError(f'CheckpointHook: interval={interval} (1 or more), max_keep_ckpts={max_keep_ckpts} '
                               '(0 or -1 keeps all)')
        columns = [save_best] if isinstance(save_best, str) else save_best or []
        if not isinstance(columns, (list, tuple)) or not all(isinstance(column, str) for column in columns):
            raise SettingError(f"CheckpointHook: save_best={save_best!r}; use a metric such as 'PSNR', a list of them, "
                               "'auto' or None")
        if best_is_higher not in (None, True, False):
            raise SettingError(f'CheckpointHook: best_is_higher={best_is_higher!r}; True, False or None')
        self.interval = interval
        self.max_keep_ckpts = max(0, max_keep_ckpts)
        self.best_is_higher = best_is_higher
        self.best = [BestCheckpoint(column) for column in dict.fromkeys(columns)]
        self.failed = None  # the WriteError of the newest checkpoint

    def before_run(self, runner):
        if self.best and runner.val_loop is None:
            runner.logger.warning(f'default_hooks.checkpoint.save_best={[best.column for best in self.best]}: without '
                                  'validation no checkpoint is kept as the best')
            self.best = []
        for best in self.best:
            with located('default_hooks.checkpoint.save_best'):
                if best.column == 'auto':
                    best.column = _first_metric(runner)
                best.higher = higher_is_better(runner, best.column)
                if self.best_is_higher not in (None, best.higher):
                    raise SettingError(f'{best.column!r}: {"higher" if best.higher else "lower"} is better, but '
                                       f'best_is_higher={self.best_is_higher}; leave best_is_higher out')

    def before_train(self, runner):
        self._saved = self._place(runner)
        for best in self.best:
            best.catch_up(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        iteration = batch_idx + 1
        if iteration % self.interval == 0 or iteration == runner.max_iters:
            self.save(runner, iteration, must=iteration == runner.max_iters)

    def after_train(self, runner):
        if self._place(runner) != self._saved:
            self.save(runner, runner.iter, must=True)

    def save(self, runner, iteration, must=False):
        """All ranks call it; rank 0 writes. WriteError on all ranks at the second failure in a row, or at the first
        one if ``must``."""
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
            self._saved = iteration, runner.train_loop.consumed, runner.train_loop.early_stop
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
            # Higher numbers belong to another run in this folder: do not count or delete them.
            paths = list_checkpoints(path.parent)
            for old in paths[:paths.index(path) + 1][:-self.max_keep_ckpts]:
                old.unlink()
        runner.logger.info(f'saved {path}')

    def after_val_epoch(self, runner, metrics=None):
        if runner.in_training:
            for best in self.best:
                best.take(runner, metrics or {})

    def _place(self, runner):
        return runner.iter, runner.train_loop.consumed, runner.train_loop.early_stop

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['best'] = {best.column: best.score for best in self.best}

    def after_load_checkpoint(self, runner, checkpoint):
        scores = checkpoint.get('best') or {}
        if not isinstance(scores, dict):
            # Earlier versions stored only one score, of their single metric.
            scores = {best.column: scores for best in self.best[:1]}
        for best in self.best:
            best.score = scores.get(best.column)


def _first_metric(runner):
    metrics = list(runner.val_loop.evaluator.metrics)
    if not metrics:
        raise SettingError("'auto': val_evaluator.metrics has no row")
    return metrics[0]
