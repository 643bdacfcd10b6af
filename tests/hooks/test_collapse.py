"""A collapse stops the run or takes it back to the best checkpoint, by a rule that a resumed run keeps."""

import math
import shutil
from types import SimpleNamespace

import pytest
from run_files import assert_equal_state, assert_same_run, read_state

from tests.hooks.helpers import stopped_at, validating_runner
from wfvae_toolkit.hooks import CollapseHook
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.visualization.records import RecordWriter


@pytest.fixture
def start(tmp_path):
    """Hook and a stand-in for the Runner, whose discriminator has started."""
    def make(monitor='PSNR', loaded=None, iteration=0, **settings):
        hook = CollapseHook(monitor, **{'tolerance': 2, 'patience': 2, **settings})
        runner = validating_runner(hook, tmp_path, iteration, max_iters=100,
                                   model=SimpleNamespace(discriminator_started=True))
        hook.before_run(runner)
        if loaded is not None:
            hook.after_load_checkpoint(runner, loaded)
        hook.before_train(runner)
        return hook, runner
    return make


@pytest.mark.parametrize(('monitor', 'scores', 'expected'), [
    ('PSNR', [20, 25, 22, 22], 4), ('PSNR', [20, 25, 23, 23, 23], None), ('PSNR', [20, 25, 22, 24, 22, 24], None),
    ('PSNR', [25, math.nan, -math.inf], 3), ('PSNR', [25, None, None], 3), ('PSNR', [20, math.inf, 20, 20], None),
    ('turned.image', [20, 16, 18, 19, 19], 5), ('turned.image', [19, 18, 17, 16], None)])
def test_it_stops_after_patience_validations_worse_by_more_than_tolerance(start, caplog, monitor, scores, expected):
    assert stopped_at(*start(monitor), scores) == expected
    assert ('The run stops' in caplog.text) == (expected is not None)


def test_before_the_discriminator_starts_scores_only_set_the_best(start):
    hook, runner = start()
    runner.model.discriminator_started = False
    assert stopped_at(hook, runner, [25, 20, 20, 20]) is None
    runner.model.discriminator_started = True
    assert stopped_at(hook, runner, [20, 20]) == 6


def test_after_the_last_iteration_it_only_reports(start, caplog):
    hook, runner = start()
    runner.max_iters = 3
    assert stopped_at(hook, runner, [25, 20, 20]) is None
    assert 'The run has reached its end' in caplog.text


def test_a_validation_outside_of_training_does_not_count(start):
    hook, runner = start()
    runner.in_training = False
    assert stopped_at(hook, runner, [25, 20, 20, 20]) is None


def test_a_resumed_run_goes_on_counting_with_the_score_that_its_checkpoint_lacks(start, tmp_path):
    hook, runner = start()
    stopped_at(hook, runner, [25])
    saved = {}
    hook.before_save_checkpoint(runner, saved)
    writer = RecordWriter(tmp_path)
    for iteration, score in ((1, 25.0), (2, 20.0), (3, 20.0)):
        writer.write('val', {'iteration': iteration, 'PSNR': score})
    resumed, runner = start(loaded=saved, iteration=2)  # 3 is of a lost continuation
    assert (resumed.best, resumed.worse) == (25, 1)
    assert stopped_at(resumed, runner, [20]) == 3


def test_a_run_that_had_no_such_hook_brings_its_best_score_alone(start, tmp_path):
    writer = RecordWriter(tmp_path)
    for iteration in range(1, 9):
        writer.write('val', {'iteration': iteration, 'PSNR': 20.0 + 5 * (iteration == 2)})
    hook, runner = start(loaded={}, iteration=8)
    assert (hook.best, hook.worse, runner.train_loop.stop_training) == (25, 1, False)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(monitor='acc'), "CollapseHook.monitor: 'acc' is never measured; use one of PSNR"),
    (dict(max_returns=1), "max_returns=1 needs the best checkpoint; set default_hooks.checkpoint.save_best='PSNR'"),
    (dict(tolerance=-1), r'tolerance=-1 \(0 or more\)'), (dict(patience=0), r'patience=0 \(1 or more\)'),
    (dict(max_returns=1.5), r'max_returns=1.5 \(0 or more\)')])
def test_what_cannot_work_is_refused(start, settings, message):
    with pytest.raises(SettingError, match=message):
        start(**settings)


# Real runs: the best is iteration 4; 6 and 8 are a collapse, 10 and 12 another one.
SCORES = {2: 1.0, 4: 3.0, 6: 0.0, 8: 0.0, 10: 0.0, 12: 0.0, 14: 3.0}
COLLAPSE = dict(type='CollapseHook', monitor='given', tolerance=1, patience=2, max_returns=1)


def options(max_iters=10, **given):
    return {'train_cfg.max_iters': max_iters, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2,
            'default_hooks.checkpoint.max_keep_ckpts': 0, 'default_hooks.checkpoint.save_best': 'given',
            'default_hooks.curves': None, 'default_hooks.pictures': None,
            'custom_hooks': [dict(type='run_probes.GivenScores', scores=SCORES, **given), COLLAPSE]}


@pytest.fixture(scope='module')
def returned(train, tmp_path_factory):
    """A run that returned to iteration 4 after 8 and trained on to 10."""
    return train('tiny', tmp_path_factory.mktemp('returned'), **options())


def test_a_return_brings_back_networks_average_and_optimizers(train, tmp_path):
    train('tiny', tmp_path, **options(stop_at=8))
    best, after = (read_state(tmp_path / name) for name in ('best_given.pth', 'iter_8.pth'))
    for part in ('state_dict', 'ema_state_dict'):
        assert_equal_state(after[part], best[part])
    for turn, optimizer in best['optimizers'].items():
        assert_equal_state(after['optimizers'][turn]['state'], optimizer['state'])
    assert (best['meta']['iteration'], after['meta']['iteration'], after['meta']['consumed']) == (4, 8, 16)
    assert after['collapse'] == {'given': {'best': 3.0, 'worse': 0, 'returns': 1, 'seen': 8}}


@pytest.mark.parametrize('iteration', [6, 8])
def test_a_resumed_run_equals_one_that_was_never_stopped(train, returned, tmp_path, iteration):
    """iter_8 was written before the score of iteration 8, which takes the run back."""
    shutil.copytree(returned, tmp_path, dirs_exist_ok=True)
    for later in range(iteration + 2, 11, 2):
        (tmp_path / f'iter_{later}.pth').unlink()
    train('tiny', tmp_path, '--resume', **options())
    assert_same_run(tmp_path, returned, 10)


def test_after_the_last_return_a_collapse_stops_the_run(train, returned, tmp_path):
    shutil.copytree(returned, tmp_path, dirs_exist_ok=True)
    train('tiny', tmp_path, '--resume', **options(max_iters=14))
    end = read_state(tmp_path / 'iter_12.pth')
    assert end['meta']['early_stop'] == 'CollapseHook'
    assert not (tmp_path / 'iter_14.pth').exists()


@pytest.mark.slow
def test_two_ranks_return_together(launch, photos, tmp_path):
    config = 'tests/data/configs/tiny.py'
    roots = (f'{part}_dataloader.dataset.data_root={photos / part}' for part in ('train', 'val'))
    done = launch('tools/dist_train.sh', config, 2, '--work-dir', tmp_path, '--cfg-options', *roots,
                  *(f'{key}={value}' for key, value in options(stop_at=8).items()))
    best, after = (read_state(tmp_path / name) for name in ('best_given.pth', 'iter_8.pth'))
    assert_equal_state(after['state_dict'], best['state_dict'])
    assert after['collapse']['given']['returns'] == 1
    assert (done.stdout + done.stderr).count('Return 1 of 1') == 1
