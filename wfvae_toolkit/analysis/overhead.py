"""What the framework adds to the bare update of a training iteration."""

import statistics
import tempfile
import time
from dataclasses import dataclass

from wfvae_toolkit.training import TrainingRunner
from wfvae_toolkit.utils.device import synchronize
from wfvae_toolkit.utils.errors import SettingError

_ROUND = 50  # iterations that are averaged: as many as between two rows of the log


@dataclass(frozen=True)
class Overhead:
    """Seconds an iteration, medians over rounds of 50: all in one run, so that the machine's moods touch them alike.

    update_s: ``model.train_step``, from the batch on the CPU to changed weights.
    data_wait_s: waiting for batches.
    framework_s: the rest, that is loop, hooks and logging; in it ``hooks_s``, by the name of each hook.
    """

    update_s: float
    data_wait_s: float
    framework_s: float
    hooks_s: dict[str, float]
    start_iter: int

    @property
    def share(self):
        """Of the framework in the bare update."""
        return self.framework_s / self.update_s


def measure_overhead(cfg, start_iter=0, rounds=4):
    """Train ``rounds`` times 50 iterations from ``start_iter`` on, after 10 that are not counted.

    Validation and checkpoints are left out: their cost is their own, at intervals that the config sets.

    Args:
        cfg (Config): of a run; changed in place, its folder is a temporary one.
        start_iter (int): where the counters stand.
        rounds (int): how many.

    Raises:
        SettingError: no rounds.
    """
    if rounds < 1 or start_iter < 0:
        raise SettingError(f'rounds={rounds} (1 or more), start_iter={start_iter} (0 or more)')
    warm_up = 10
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.max_iters = start_iter + warm_up + rounds * _ROUND + 1  # the last one logs out of turn
    cfg.default_hooks.checkpoint = None
    cfg.log_level = 'WARNING'
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = TrainingRunner.from_cfg(cfg)
        loop = runner.train_loop
        loop.restore(start_iter, loop.images_between(0, start_iter), skipped=0)
        watch = _Watch(runner, first=start_iter + warm_up)
        runner.train()
    return watch.result(start_iter)


def format_overhead(overhead):
    """Overhead -> plain-text table."""
    rows = [('bare update', overhead.update_s), ('waiting for data', overhead.data_wait_s),
            ('framework', overhead.framework_s),
            *((f'  {name}', seconds) for name, seconds in sorted(overhead.hooks_s.items(), key=lambda row: -row[1]))]
    lines = [f'from iteration {overhead.start_iter:,}, an iteration:']
    lines += [f'{name:<28}{1e3 * seconds:>10.3f} ms{seconds / overhead.update_s:>9.2%}' for name, seconds in rows]
    return '\n'.join(lines)


class _Watch:
    """Wraps the parts of a built runner and counts their seconds, in rounds, from iteration ``first`` on."""

    def __init__(self, runner, first):
        self._runner, self._first = runner, first
        self._rounds, self._seconds = [], {}
        loop = runner.train_loop
        loop._read = self._reading(loop._read)
        loop._next_batch = self._timed('data', loop._next_batch)
        loop._run_iteration = self._timed('iteration', loop._run_iteration)
        runner.model.train_step = self._timed('update', runner.model.train_step)
        self._hooks = [type(hook).__name__ for hook in runner.hooks]
        for hook, name in zip(runner.hooks, self._hooks, strict=True):
            for place in ('before_train_iter', 'after_train_iter'):
                setattr(hook, place, self._timed(name, getattr(hook, place)))

    def result(self, start_iter):
        def median(seconds):
            return statistics.median(map(seconds, self._rounds)) / _ROUND

        hooks = {name: median(lambda done, name=name: done[name]) for name in self._hooks}

        def framework(done):
            return done['reading'] + done['iteration'] - done['update'] - done['data']

        return Overhead(update_s=median(lambda done: done['update']), data_wait_s=median(lambda done: done['data']),
                        framework_s=median(framework), hooks_s=hooks, start_iter=start_iter)

    def _timed(self, name, function):
        def call(*arguments, **settings):
            start = _now()
            try:
                return function(*arguments, **settings)
            finally:
                self._seconds[name] = self._seconds.get(name, 0.0) + _now() - start
        return call

    def _reading(self, read):
        """An iteration begins with its pictures."""
        timed = self._timed('reading', read)

        def reading():
            done = self._runner.iter - self._first
            if done % _ROUND == 0:
                if done > 0:
                    self._rounds.append(self._seconds)
                self._seconds = {}
            return timed()
        return reading


def _now():
    # On a GPU the framework's work may hide behind the update's; waiting here counts it in full.
    synchronize()
    return time.perf_counter()
