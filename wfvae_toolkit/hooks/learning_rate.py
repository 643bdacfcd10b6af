"""Learning rates as a function of the iteration."""

import math

from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils.errors import SettingError

DECAYS = ('constant', 'cosine', 'linear_tail')


@HOOKS.register_module()
class LearningRateHook(Hook):
    """Multiplies every optimizer's configured rate by ``factor(iteration)``: linear warm-up, then a decay.

    Nothing is stored: a resumed run computes the same rates. The warm-up takes at most half of the run.

    Args:
        warmup_iters (int): iterations from 0 to the full rate.
        decay (str): ``'constant'``, ``'cosine'`` down to ``final_factor`` at ``max_iters``, or ``'linear_tail'``:
            constant, then linear down to ``final_factor`` over the last ``tail`` of the run. You may end such a run at
            any checkpoint: resume it with a ``max_iters`` whose tail begins there.
        final_factor (float): end of the decay, a fraction of the full rate.
        tail (float): share of ``max_iters``, above 0 and up to 1.
    """

    priority = 'VERY_HIGH'
    sets_learning_rate = True  # so param_scheduler is refused

    def __init__(self, warmup_iters=0, decay='constant', final_factor=0.0, tail=0.1):
        if decay not in DECAYS:
            raise SettingError(f'LearningRateHook: decay={decay!r}; use one of {", ".join(DECAYS)}')
        if warmup_iters < 0 or not 0.0 <= final_factor <= 1.0:
            raise SettingError(f'LearningRateHook: warmup_iters={warmup_iters} (0 or more), '
                               f'final_factor={final_factor} (0 to 1)')
        if not 0.0 < tail <= 1.0:
            raise SettingError(f'LearningRateHook: tail={tail} (above 0, up to 1)')
        self.warmup_iters = warmup_iters
        self.decay = decay
        self.final_factor = final_factor
        self.tail = tail

    def factor(self, iteration, max_iters):
        """Rate of iteration 0, 1, ... as a fraction of the configured one."""
        warmup = min(self.warmup_iters, max_iters // 2)
        if iteration < warmup:
            return (iteration + 1) / (warmup + 1)
        if self.decay == 'constant':
            return 1.0
        if self.decay == 'linear_tail':
            left = (max_iters - iteration) / (self.tail * max_iters)
            return self.final_factor + (1.0 - self.final_factor) * min(1.0, max(0.0, left))
        progress = (iteration - warmup) / max(1, max_iters - warmup)
        return self.final_factor + (1.0 - self.final_factor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    def after_load_checkpoint(self, runner, checkpoint):
        iteration, before = checkpoint['meta']['iteration'], checkpoint['meta'].get('max_iters', runner.max_iters)
        # Check about 1000 iterations: cosines of two lengths differ at nearly every one.
        seen = range(0, iteration, max(1, iteration // 1000))
        if any(self.factor(i, before) != self.factor(i, runner.max_iters) for i in seen):
            _warn_of_another_length(runner, iteration, before, "; with decay='constant' and an equal warm-up it would")

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        factor = self.factor(batch_idx, runner.max_iters)
        for wrapper in runner.optim_wrapper.values():
            for group in wrapper.param_groups:
                group['lr'] = group['initial_lr'] * factor


@HOOKS.register_module()
class ParamSchedulerHook(Hook):
    """Sets the optimizers' values of ``param_scheduler`` at each iteration; the runner adds this hook if needed."""

    priority = 'VERY_HIGH'
    applies_param_scheduler = True

    def after_load_checkpoint(self, runner, checkpoint):
        iteration, before = checkpoint['meta']['iteration'], checkpoint['meta'].get('max_iters', runner.max_iters)
        schedules = runner.param_schedulers
        if schedules is not None and before != runner.max_iters and schedules.differ_before(iteration, before):
            _warn_of_another_length(runner, iteration, before, '; schedulers with an `end` of their own would')

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.param_schedulers is not None:
            runner.param_schedulers.apply(batch_idx)


def _warn_of_another_length(runner, iteration, before, advice):
    runner.logger.warning(f'train_cfg.max_iters was {before} and is {runner.max_iters}: the first {iteration} '
                          'iterations had learning rates of the shorter or longer run, so this will not equal '
                          f'a run of {runner.max_iters} from the start{advice}')
