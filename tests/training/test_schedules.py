"""Schedulers of MMEngine as a function of the iteration."""

import copy

import pytest
from mmengine.registry import PARAM_SCHEDULERS

from wfvae_toolkit.training.schedules import ParamSchedules
from wfvae_toolkit.utils.errors import SettingError, UserError

LENGTH = 12
WARMUP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)
EVERY = [
    [dict(type='ConstantLR', factor=0.5, by_epoch=False, end=5)], [dict(type='CosineAnnealingLR', by_epoch=False)],
    [dict(type='ExponentialLR', gamma=0.9, by_epoch=False)], [dict(type='LinearLR', by_epoch=False, end=6)],
    [dict(type='MultiStepLR', milestones=[3, 7], by_epoch=False)], [dict(type='StepLR', step_size=3, by_epoch=False)],
    [dict(type='PolyLR', power=0.9, by_epoch=False)], [dict(type='OneCycleLR', eta_max=0.1, by_epoch=False)],
    [dict(type='CosineRestartLR', periods=[4, 8], restart_weights=[1.0, 0.5], eta_min=0.0, by_epoch=False)],
    [dict(type='CosineAnnealingMomentum', by_epoch=False, eta_min=0.1)],
    [WARMUP, dict(type='CosineAnnealingLR', by_epoch=False, begin=4)],
    [WARMUP, dict(type='LinearMomentum', start_factor=0.5, by_epoch=False)]]


@pytest.fixture
def build(make_model, make_optimizers):
    """Schedules and the wrappers whose settings they set; ``lr``: the configured rate of both."""
    def make(cfg, lr=1e-2, max_iters=LENGTH):
        wrappers = make_optimizers(make_model(), lr=lr)
        for wrapper in wrappers.values():
            wrapper.optimizer.param_groups[0]['momentum'] = 0.9
        return ParamSchedules(cfg, wrappers, max_iters), wrappers
    return make


def rates(schedules, wrappers, iterations, name='lr'):
    found = []
    for iteration in iterations:
        schedules.apply(iteration)
        found.append([wrapper.optimizer.param_groups[0][name] for wrapper in wrappers.values()])
    return found


@pytest.mark.parametrize('cfg', EVERY, ids=lambda rows: '+'.join(row['type'] for row in rows))
def test_values_are_those_of_mmengine(build, cfg):
    schedules, wrappers = build(cfg)
    _, theirs = build(cfg)
    optimizer = theirs['autoencoder'].optimizer
    stock = [PARAM_SCHEDULERS.build({'end': LENGTH, **copy.deepcopy(row)}, default_args=dict(optimizer=optimizer))
             for row in cfg]
    for iteration in range(LENGTH):
        schedules.apply(iteration)
        for wrapper in wrappers.values():
            for name in ('lr', 'momentum'):
                assert wrapper.optimizer.param_groups[0][name] == optimizer.param_groups[0][name], (iteration, name)
        optimizer.step()
        for scheduler in stock:
            scheduler.step()


@pytest.mark.parametrize('cfg', EVERY, ids=lambda rows: '+'.join(row['type'] for row in rows))
def test_a_resumed_run_has_the_same_rates(build, cfg):
    name = 'momentum' if cfg[-1]['type'].endswith('Momentum') else 'lr'
    whole = rates(*build(cfg), range(LENGTH), name)
    schedules, wrappers = build(cfg)
    for wrapper in wrappers.values():
        wrapper.optimizer.param_groups[0][name] = 123.0  # as loaded
    assert rates(schedules, wrappers, range(7, LENGTH), name) == whole[7:]
    assert rates(schedules, wrappers, [3], name) == [whole[3]]


def test_a_changed_base_rate_takes_effect(build):
    cfg = [WARMUP, dict(type='StepLR', step_size=3, begin=4, by_epoch=False)]
    once, twice = rates(*build(cfg, lr=1e-2), [2, 9]), rates(*build(cfg, lr=2e-2), [2, 9])
    assert twice == [pytest.approx([2 * rate for rate in row]) for row in once]


def test_adams_momentum_is_its_first_beta(make_model):
    from wfvae_toolkit.training import TurnOptimizers

    row = dict(optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99)))
    wrappers = TurnOptimizers(dict(autoencoder=row, discriminator=row))(make_model())
    cfg = [dict(type='LinearMomentum', start_factor=0.5, by_epoch=False, end=5)]
    schedules = ParamSchedules(cfg, wrappers, LENGTH)
    assert rates(schedules, wrappers, [0], 'betas') == [[(0.45, 0.99)] * 2]
    assert rates(schedules, wrappers, [4], 'betas') == [[(pytest.approx(0.9), 0.99)] * 2]
    assert 'momentum' not in wrappers['autoencoder'].optimizer.param_groups[0]


def test_each_network_has_its_own(build):
    schedules, wrappers = build(dict(autoencoder=WARMUP, discriminator=[]))
    assert rates(schedules, wrappers, [0, 5]) == [pytest.approx([1e-3, 1e-2]), pytest.approx([1e-2, 1e-2])]


def test_another_length_is_noticed(build):
    schedules, _ = build([dict(type='CosineAnnealingLR', by_epoch=False)])
    assert schedules.differ_before(3, 2 * LENGTH)
    assert not schedules.differ_before(1, 2 * LENGTH)  # the first rate is the full one
    constant, _ = build([dict(type='MultiStepLR', milestones=[2], by_epoch=False)])
    assert not constant.differ_before(LENGTH, 2 * LENGTH)


@pytest.mark.parametrize(('cfg', 'message'), [
    ([dict(type='LinearLR')], r'param_scheduler.0: LinearLR: set by_epoch=False'),
    (dict(autoencoder=[WARMUP]), r'has no row discriminator; give discriminator=\[\]'),
    (dict(generator=[], autoencoder=[], discriminator=[]), 'param_scheduler.generator: a list for every optimizer'),
    (dict(autoencoder=[WARMUP, 'LinearLR'], discriminator=[]), r"param_scheduler.autoencoder.1: 'LinearLR': use dict"),
    ([{**WARMUP, 'begin': LENGTH, 'end': 99}], f'begin={LENGTH}: the run ends earlier'),
    ([{**WARMUP, 'factor': 1}], 'LinearLR: no setting factor; its settings are .*start_factor'),
    ([{**WARMUP, 'start_factor': 3}], 'LinearLR: Starting multiplicative factor'),
    ([dict(type='LinearRL', by_epoch=False)], "did you mean 'LinearLR'"),
    ([dict(type='ReduceOnPlateauLR', monitor='PSNR')], 'its rates depend on scores'),
    ([dict(type='ReduceOnPlateauMomentum', monitor='PSNR')], 'its rates depend on scores'),
])
def test_what_cannot_work_is_refused(build, cfg, message):
    with pytest.raises(UserError, match=message):
        build(cfg)


def test_an_end_before_the_begin_is_refused(build):
    with pytest.raises(SettingError, match='end should be larger than begin'):
        build([{**WARMUP, 'begin': 5, 'end': 5}])
