"""What happens when a score collapses after the discriminator has started."""

import math
from pathlib import Path

from mmengine.hooks import Hook

from wfvae_toolkit.checkpoints import load_training_checkpoint
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.training.resume import restore_networks
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError, is_number, located
from wfvae_toolkit.visualization.records import read_records

from .best import BestCheckpoint, higher_is_better, improves, measured_score
from .checkpoint import CheckpointHook
from .ema import EMAHook


@HOOKS.register_module()
class CollapseHook(Hook):
    """Goes back to the best checkpoint, or stops the run, when one score of the validation collapses.

    The rule: once the discriminator has started, ``patience`` validations in a row are worse than the best so far by
    more than ``tolerance``. A score that is no number counts as worse. The metric says which way is better. Without a
    discriminator the rule holds from the first validation on.

    Going back loads networks, EMA and optimizers of ``best_MONITOR.pth``. The iteration, the order of the data, the
    learning rate and the best score stay as they are. After ``max_returns`` returns the next collapse stops the run, as
    EarlyStoppingHook does. After the last iteration a collapse is only reported.

    Args:
        monitor (str): a column of the validation, such as ``'LPIPS'``.
        tolerance (float): in the unit of the column.
        patience (int): validations.
        max_returns (int): 0: the first collapse stops the run. Else ``default_hooks.checkpoint.save_best`` must hold
            ``monitor``.

    Raises:
        SettingError: a setting that cannot work; before training, a column that is not measured or has no better
            direction, or ``max_returns`` without the checkpoint to return to.
        CheckpointError: the best checkpoint is damaged.
    """

    priority = 'LOW'  # after the hooks that add columns, and after the log has the row

    def __init__(self, monitor, tolerance, patience=3, max_returns=0):
        if not is_number(tolerance, 0) or not is_number(patience, 1, whole=True) or (
                not is_number(max_returns, 0, whole=True)):
            raise SettingError(f'CollapseHook: tolerance={tolerance!r} (0 or more), patience={patience!r} (1 or more), '
                               f'max_returns={max_returns!r} (0 or more)')
        self.monitor, self.tolerance, self.patience, self.max_returns = monitor, tolerance, patience, max_returns
        self.best, self.worse, self.returns = None, 0, 0
        self.seen = 0  # iteration of the newest validation that was counted

    def before_run(self, runner):
        with located('CollapseHook.monitor'):
            self.higher = higher_is_better(runner, self.monitor)

    def before_train(self, runner):
        """A checkpoint is written before its iteration is validated: take the scores that it lacks from the log."""
        kept = [best.column for hook in runner.hooks if isinstance(hook, CheckpointHook) for best in hook.best]
        if self.max_returns and self.monitor not in kept:
            raise SettingError(f'CollapseHook: max_returns={self.max_returns} needs the best checkpoint; set '
                               f'default_hooks.checkpoint.save_best={self.monitor!r}')
        rows = distributed.of_main(read_records(runner.work_dir) if distributed.is_main() else None)
        for row in rows:
            if row['phase'] != 'val' or not self.seen < row['iteration'] <= runner.iter:
                continue
            score = row.get(self.monitor)
            if row['iteration'] == runner.iter:
                self._count(runner, math.nan if score is None else score)
            elif score is not None:
                self._improve(score)  # of a run that had no such hook

    def after_val_epoch(self, runner, metrics=None):
        if runner.in_training:
            score = measured_score(runner, self.monitor, metrics or {})
            if score is not None:
                self._count(runner, score)

    def _count(self, runner, score):
        score = distributed.of_main(score)
        self.seen = runner.iter
        self._improve(score)
        behind = 0.0 if self.best is None else (self.best - score) * (1 if self.higher else -1)
        # `not <=`: NaN is worse.
        worse = runner.model.discriminator_started and not behind <= self.tolerance
        self.worse = self.worse + 1 if worse else 0
        if self.worse >= self.patience:
            self._act(runner, score)

    def _improve(self, score):
        if math.isfinite(score) and (self.best is None or improves(score, self.best, self.higher)):
            self.best = score

    def _act(self, runner, score):
        found = (f'CollapseHook: iteration {runner.iter}: {self.monitor} {score:.4f} is the last of {self.worse} in a '
                 f'row worse than the best, {self.best:.4f}, by more than {self.tolerance:g}')
        if runner.iter >= runner.max_iters:
            runner.logger.warning(f'{found}. The run has reached its end')
            return
        self.worse = 0
        path = BestCheckpoint(self.monitor).path(runner)
        if self.returns >= self.max_returns:
            reason = ' after its last return' if self.returns else ''
        elif not distributed.of_main(Path(path).is_file()):
            reason = f', because there is no {path} to return to'
        else:
            self.returns += 1
            self._return_to(runner, path, found)
            return
        runner.train_loop.stop_training = True
        runner.logger.warning(f'{found}. The run stops{reason}')

    def _return_to(self, runner, path, found):
        checkpoint = load_training_checkpoint(path)
        restore_networks(runner, checkpoint, path)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.after_load_checkpoint(runner, checkpoint)
        runner.logger.warning(f'{found}. Return {self.returns} of {self.max_returns}: networks, EMA and optimizers are '
                              f'restored from {path}, iteration {checkpoint["meta"]["iteration"]}; iteration, data '
                              'order and learning rate continue')

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint.setdefault('collapse', {})[self.monitor] = {
            'best': self.best, 'worse': self.worse, 'returns': self.returns, 'seen': self.seen}

    def after_load_checkpoint(self, runner, checkpoint):
        saved = checkpoint.get('collapse', {}).get(self.monitor, {})
        self.best, self.worse = saved.get('best'), saved.get('worse', 0)
        self.returns, self.seen = saved.get('returns', 0), saved.get('seen', 0)
