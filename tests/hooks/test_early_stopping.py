import math

import pytest

from tests.hooks.helpers import stopped_at, validating_runner
from wfvae_toolkit.hooks import EarlyStoppingHook
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.visualization.records import RecordWriter


@pytest.fixture
def start(tmp_path):
    """Hook and a stand-in for the Runner, before any validation."""
    def make(monitor='PSNR', **settings):
        hook = EarlyStoppingHook(monitor, min_delta=0.5, patience=2, **settings)
        runner = validating_runner(hook, tmp_path)
        hook.before_run(runner)
        hook.before_train(runner)
        return hook, runner
    return make


@pytest.mark.parametrize(('monitor', 'scores', 'expected'), [
    ('PSNR', [20, 21, 22, 23, 24], None), ('PSNR', [24, 23, 22, 21, 20], 3), ('PSNR', [20, 20.4, 21, 21.2, 21.4], 5),
    ('turned.image', [24, 23, 22, 21, 20], None), ('turned.image', [20, 21, 22, 23], 3),
    ('raw/turned.image', [20, 19, 19, 19], 4)])
def test_the_metric_says_which_way_is_better(start, monitor, scores, expected):
    assert stopped_at(*start(monitor), scores) == expected


@pytest.mark.parametrize('score', [None, math.nan])
def test_a_score_that_is_no_number(start, score):
    assert stopped_at(*start(), [20, score]) == 2
    assert stopped_at(*start(check_finite=False), [20, score, 22, 23]) is None  # never the best, so 22 improves on 20
    assert stopped_at(*start(check_finite=False), [20, score, score]) == 3


def test_a_resumed_run_goes_on_counting(start, tmp_path, caplog):
    writer = RecordWriter(tmp_path)
    for iteration, score in enumerate((20, 21, 20), 1):
        writer.write('val', {'iteration': iteration, 'PSNR': float(score)})
    hook, runner = start()
    runner.iter = 2
    hook.before_train(runner)
    assert (hook.best_score, hook.wait_count) == (21, 0)  # what a lost continuation scored does not count
    runner.iter = 3
    hook.before_train(runner)
    assert (hook.best_score, hook.wait_count) == (21, 1)
    assert stopped_at(hook, runner, [20], first=1) == 1
    assert 'the monitored metric did not improve in the last 2 records' in caplog.text


def test_a_validation_outside_of_training_does_not_count(start):
    hook, runner = start()
    runner.in_training = False
    assert stopped_at(hook, runner, [20, 10, 10, 10]) is None


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(monitor='acc'), "EarlyStoppingHook.monitor: 'acc' is never measured; use one of PSNR"),
    (dict(rule='less'), "'PSNR': greater is better, but rule='less'"),
    (dict(monitor='turned.image', rule='greater'), "less is better, but rule='greater'"),
    (dict(rule='higher'), "rule='higher'; 'greater', 'less' or None")])
def test_what_cannot_work_is_refused(start, settings, message):
    with pytest.raises(SettingError, match=message):
        start(**settings)
