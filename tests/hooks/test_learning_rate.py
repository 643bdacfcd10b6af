import math
from types import SimpleNamespace

import pytest
import torch

from wfvae_toolkit.hooks import LearningRateHook


def test_linear_warm_up_then_constant():
    hook = LearningRateHook(warmup_iters=4)
    factors = [hook.factor(i, 1000) for i in range(7)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    assert hook.factor(999, 1000) == 1


def test_cosine():
    hook = LearningRateHook(warmup_iters=100, decay='cosine', final_factor=0.1)
    assert hook.factor(100, 1100) == 1
    assert hook.factor(350, 1100) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert hook.factor(600, 1100) == pytest.approx(0.55)
    assert hook.factor(1100, 1100) == pytest.approx(0.1)
    assert hook.factor(5000, 1100) == pytest.approx(0.1)  # a run that is prolonged
    factors = [hook.factor(i, 1100) for i in range(1100)]
    assert factors.index(max(factors)) == 100
    assert factors[100:] == sorted(factors[100:], reverse=True)


def test_linear_tail():
    hook = LearningRateHook(warmup_iters=10, decay='linear_tail', final_factor=0.1, tail=0.25)
    assert [hook.factor(i, 400) for i in (10, 150, 300)] == [1, 1, 1]
    assert hook.factor(350, 400) == pytest.approx(0.55)
    assert hook.factor(400, 400) == pytest.approx(0.1)
    assert hook.factor(900, 400) == pytest.approx(0.1)  # a run that is prolonged


def test_a_run_with_a_tail_can_be_cut_short_without_having_had_other_rates():
    """Stop at iteration 900 of 4000, then resume for another 100 iterations, which are the tail."""
    hook = LearningRateHook(warmup_iters=10, decay='linear_tail')
    warnings = []
    runner = SimpleNamespace(max_iters=1000, logger=SimpleNamespace(warning=warnings.append))
    hook.after_load_checkpoint(runner, {'meta': {'iteration': 900, 'max_iters': 4000}})
    assert warnings == []
    hook.after_load_checkpoint(runner, {'meta': {'iteration': 950, 'max_iters': 4000}})
    assert len(warnings) == 1


@pytest.mark.parametrize('max_iters', [1, 2, 3, 10, 49])
@pytest.mark.parametrize('decay', ['constant', 'cosine', 'linear_tail'])
def test_any_length_reaches_the_full_rate(max_iters, decay):
    hook = LearningRateHook(warmup_iters=1000, decay=decay)
    factors = [hook.factor(i, max_iters) for i in range(max_iters)]
    assert max(factors) == 1
    assert min(factors) > 0
    assert factors.index(1) == max_iters // 2


def test_every_group_gets_its_own_rate_times_the_factor():
    groups = [dict(initial_lr=1.0), dict(initial_lr=0.25)], [dict(initial_lr=4.0)]
    wrappers = {name: SimpleNamespace(param_groups=rows) for name, rows in zip('ab', groups, strict=True)}
    runner = SimpleNamespace(max_iters=100, optim_wrapper=wrappers)
    hook = LearningRateHook(warmup_iters=9)
    for iteration in (3, 4):  # nothing accumulates
        hook.before_train_iter(runner, iteration)
    assert [group['lr'] for rows in groups for group in rows] == pytest.approx([0.5, 0.125, 2.0])


def test_reaches_torchs_optimizers(make_model, make_optimizers):
    wrappers = make_optimizers(make_model(), lr=2e-3)
    LearningRateHook(warmup_iters=1).before_train_iter(SimpleNamespace(max_iters=10, optim_wrapper=wrappers), 0)
    for wrapper in wrappers.values():
        assert isinstance(wrapper.optimizer, torch.optim.SGD)
        assert wrapper.optimizer.param_groups[0]['lr'] == 1e-3


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(decay='linear'), "decay='linear'; use one of constant, cosine, linear_tail"),
    (dict(warmup_iters=-1), 'warmup_iters=-1'),
    (dict(final_factor=1.5), 'final_factor=1.5'),
    (dict(tail=0), 'tail=0'),
])
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        LearningRateHook(**settings)
