import math
from types import SimpleNamespace

import pytest

from wfvae_toolkit.hooks import DiscriminatorWarmupHook, LossCurvesHook
from wfvae_toolkit.hooks import curves as curves_module
from wfvae_toolkit.visualization.records import RecordWriter


@pytest.fixture
def draw(monkeypatch):
    """Draws the curves of a hook; returns the panels and the mark."""
    seen = []
    monkeypatch.setattr(curves_module, 'draw_curves', lambda panels, path, mark: seen.append((panels, path, mark)))

    def call(hook, runner):
        hook.draw(runner)
        panels, _, mark = seen[-1]
        return {name: list(zip(curve.x, curve.y, strict=True))
                for panel in panels.values() for name, curve in panel.items()}, mark
    return call


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(work_dir=str(tmp_path), iter=0, hooks=[], in_training=True,
                           model=SimpleNamespace(discriminator=object()))


def test_rows_of_both_phases_become_curves(draw, runner):
    hook = LossCurvesHook()
    hook.before_train(runner)
    hook.after_log(runner, 'train', {'iteration': 3, 'kl': 2.0, 'no panel': 1.0})
    hook.after_log(runner, 'val', {'iteration': 3, 'PSNR': 20.0})
    assert draw(hook, runner)[0] == {'kl': [(3, 2.0)], 'PSNR': [(3, 20.0)]}


@pytest.mark.parametrize('value', [None, 'text', math.nan, math.inf])
def test_what_is_no_finite_number_has_no_point(draw, runner, value):
    hook = LossCurvesHook()
    hook.before_train(runner)
    hook.after_log(runner, 'train', {'iteration': 3, 'kl': value})
    assert draw(hook, runner)[0] == {}


def test_a_resumed_run_draws_what_came_before_it(draw, runner, tmp_path):
    writer = RecordWriter(tmp_path)
    for iteration in (2, 4, 6):
        writer.write('train', {'iteration': iteration, 'kl': float(iteration)})
    runner.iter = 4  # what a lost continuation logged at 6 does not count
    hook = LossCurvesHook()
    hook.before_train(runner)
    assert draw(hook, runner)[0] == {'kl': [(2, 2.0), (4, 4.0)]}


@pytest.mark.parametrize(('start', 'discriminator', 'marked'), [(5, object(), True), (20, object(), False),
                                                                (5, None, False)])
def test_the_start_of_the_discriminator_is_marked_once_it_has_started(draw, runner, start, discriminator, marked):
    runner.iter, runner.model.discriminator = 10, discriminator
    runner.hooks.append(DiscriminatorWarmupHook(start_iter=start))
    hook = LossCurvesHook()
    hook.before_train(runner)
    assert draw(hook, runner)[1] == ((start, 'discriminator starts') if marked else None)
