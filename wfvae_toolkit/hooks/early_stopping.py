"""End a run whose score no longer improves."""

import math

from mmengine import hooks

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.visualization.records import read_records

from .best import higher_is_better


@HOOKS.register_module()
class EarlyStoppingHook(hooks.EarlyStoppingHook):
    """MMEngine's EarlyStoppingHook; the metric itself says whether higher or lower is better.

    The hook counts from the validations in the run's log. A resumed run therefore continues the count, and a run that
    was stopped stays stopped.

    Args:
        monitor (str): a column of the validation, such as ``'PSNR'``.
        rule (str): the direction that you expect, ``'greater'`` or ``'less'``; an error if the metric says otherwise.
        min_delta, check_finite, patience, stopping_threshold: see MMEngine's hook.

    Raises:
        SettingError: before training, if ``monitor`` is not measured or has no better direction.
    """

    def __init__(self, monitor, rule=None, min_delta=0.1, check_finite=True, patience=5, stopping_threshold=None):
        if rule not in (None, 'greater', 'less'):
            raise SettingError(f"EarlyStoppingHook: rule={rule!r}; 'greater', 'less' or None")
        super().__init__(monitor, rule or 'greater', min_delta, True, check_finite, patience, stopping_threshold)
        self._expected, self._min_delta = rule, min_delta

    def before_run(self, runner):
        with located('EarlyStoppingHook.monitor'):
            self.rule = 'greater' if higher_is_better(runner, self.monitor) else 'less'
            if self._expected not in (None, self.rule):
                raise SettingError(f'{self.monitor!r}: {self.rule} is better, but rule={self._expected!r}; leave rule '
                                   'out')
        self._forget()

    def _forget(self):
        # MMEngine's constructor does this, but there the direction is not known yet.
        self.min_delta = self._min_delta if self.rule == 'greater' else -self._min_delta
        self.best_score = -math.inf if self.rule == 'greater' else math.inf
        self.wait_count = 0

    def before_train(self, runner):
        self._forget()
        rows = distributed.of_main(read_records(runner.work_dir) if distributed.is_main() else None)
        for row in rows:
            if row['phase'] == 'val' and 0 < row['iteration'] <= runner.iter:
                self._count(runner, row, row['iteration'])

    def after_val_epoch(self, runner, metrics):
        if runner.in_training:
            self._count(runner, metrics, runner.iter)

    def _count(self, runner, scores, iteration):
        score = scores.get(self.monitor)
        if score is None or math.isnan(score):
            # A score that is not finite is never the best, whatever check_finite says.
            score = -math.inf if self.rule == 'greater' else math.inf
        stop, reason = self._check_stop_condition(score)
        if stop:
            runner.train_loop.stop_training = True
            runner.logger.warning(f'EarlyStoppingHook: iteration {iteration}: {reason.strip()}')
