import math

import pytest

from wfvae_toolkit.checkpoints import list_checkpoints, load_training_checkpoint
from wfvae_toolkit.evaluation import ReconstructionEvaluator
from wfvae_toolkit.hooks import CheckpointHook, FlatFieldHook
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.visualization.records import RecordWriter

# which score is the best

@pytest.mark.parametrize(('column', 'kept'), [
    ('PSNR', 3), ('raw/PSNR', 3), ('SSIM', 3), ('blur.contrast', 3), ('blur.width', 5), ('raw/blur.width', 5)])
@pytest.mark.parametrize('settings', [{}, {'best_is_higher': 'as the metric'}])
def test_the_metric_says_which_score_is_best(start_checkpoints, tmp_path, column, kept, settings):
    if settings:
        settings = dict(best_is_higher=kept == 3)
    hook, runner = start_checkpoints(interval=100, save_best=column, **settings)
    for iteration, value in ((1, 20.0), (3, 30.0), (5, 10.0), (7, 25.0), (9, 30.0), (10, 10.0)):
        runner.iter = iteration
        hook.after_val_epoch(runner, {column: value, 'another': 99.0})
    best = load_training_checkpoint(tmp_path / f'best_{column.replace("/", "_")}.pth')
    assert best['meta']['iteration'] == kept
    assert best['best'] == {column: {3: 30.0, 5: 10.0}[kept]}
    assert list_checkpoints(tmp_path) == []


def test_a_list_keeps_one_file_each(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints(save_best=['PSNR', 'blur.width'])
    for iteration, psnr, width in ((1, 20.0, 2.0), (2, 30.0, 3.0), (3, 10.0, 1.0)):
        runner.iter = iteration
        hook.after_val_epoch(runner, {'PSNR': psnr, 'blur.width': width})
    found = {path.name: load_training_checkpoint(path)['meta']['iteration'] for path in tmp_path.glob('best_*')}
    assert found == {'best_PSNR.pth': 2, 'best_blur.width.pth': 3}


def test_auto_is_the_first_metric(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints(save_best='auto')
    hook.after_val_epoch(runner, {'PSNR': 30.0})
    assert (tmp_path / 'best_PSNR.pth').is_file()


@pytest.mark.parametrize('first', [None, 20.0])
@pytest.mark.parametrize('score', [None, math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_the_best(start_checkpoints, tmp_path, caplog, first, score):
    hook, runner = start_checkpoints(save_best='PSNR')
    runner.val_loop.summary.metrics = {'PSNR': {'mean': None}}
    for iteration, value in ((1, first), (2, score)):
        runner.iter = iteration
        hook.after_val_epoch(runner, {} if value is None else {'PSNR': value})
    assert (tmp_path / 'best_PSNR.pth').exists() == (first is not None)
    assert 'iteration 2: PSNR is no finite number' in caplog.text


def test_a_hook_may_add_a_column(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints()
    runner.hooks.append(FlatFieldHook())
    hook = CheckpointHook(save_best='flat/grid')
    hook.before_run(runner)
    for iteration, metrics in enumerate(({'flat/grid': 2.0}, {'flat/grid': 1.0}, {'PSNR': 30.0}, {'flat/grid': 3.0})):
        runner.iter = iteration
        hook.after_val_epoch(runner, metrics)
    assert load_training_checkpoint(tmp_path / 'best_flat_grid.pth')['meta']['iteration'] == 1


def test_a_validation_outside_of_training_keeps_nothing(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints(save_best='PSNR')
    runner.in_training = False
    hook.after_val_epoch(runner, {'PSNR': 30.0})
    assert not list(tmp_path.iterdir())


def test_the_best_that_cannot_be_written_is_reported(start_checkpoints, tmp_path, disk, caplog):
    hook, runner = start_checkpoints(save_best='PSNR')
    disk.full = True
    hook.after_val_epoch(runner, {'PSNR': 30.0})
    assert f'{tmp_path}/best_PSNR.pth: not written' in caplog.text


# columns that cannot be asked for

@pytest.mark.parametrize(('settings', 'message'), [
    (dict(save_best='size'), "save_best: 'size': neither direction of this metric is better"),
    (dict(save_best='PSMR'), "'PSMR' is never measured; use one of PSNR, SSIM, .*; did you mean 'PSNR'"),
    (dict(save_best='PSNR', best_is_higher=False), "'PSNR': higher is better, but best_is_higher=False"),
    (dict(save_best=['PSNR', 'blur.width'], best_is_higher=True), "'blur.width': lower is better"),
    (dict(save_best='blur'), "'blur' is never measured; use one of PSNR, SSIM, blur.width, blur.contrast, size"),
    (dict(save_best='flat/grid'), "'flat/grid' is never measured"),
])
def test_a_best_that_means_nothing_is_refused(start_checkpoints, settings, message):
    with pytest.raises(SettingError, match=message):
        start_checkpoints(**settings)


def test_a_column_that_is_missing_from_the_scores_is_refused(start_checkpoints):
    hook, runner = start_checkpoints(save_best='turned')  # before the first measurement its columns are not known
    runner.val_loop.summary.metrics = {'PSNR': {}, 'turned.image': {}}
    with pytest.raises(SettingError, match='the validation has no such column; it has PSNR, turned'):
        hook.after_val_epoch(runner, {'PSNR': 30.0})


def test_a_metric_without_weights_says_where_they_belong(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints()
    lpips = dict(type='LPIPS', trunk_weights=str(tmp_path / 'absent.pth'), optional=True)
    runner.val_loop.evaluator = ReconstructionEvaluator(dict(LPIPS=lpips))
    for column in ('LPIPS', 'raw/LPIPS'):
        with pytest.raises(SettingError, match=f"{column}' is not measured: .*absent.pth.*"):
            CheckpointHook(save_best=column).before_run(runner)


def test_raw_columns_need_an_average(start_checkpoints):
    hook, runner = start_checkpoints()
    runner.averaged_autoencoder = None
    with pytest.raises(SettingError, match='not measured without default_hooks.ema'):
        CheckpointHook(save_best='raw/PSNR').before_run(runner)


# resumed runs

def test_a_resumed_run_knows_the_best(start_checkpoints, tmp_path):
    hook, runner = start_checkpoints(interval=2, save_best='PSNR', max_iters=2)
    runner.iter = 1
    hook.after_val_epoch(runner, {'PSNR': 30.0})
    for iteration in range(2):
        hook.after_train_iter(runner, iteration)
    resumed, runner = start_checkpoints(interval=2, save_best='PSNR', max_iters=6)
    resumed.after_load_checkpoint(runner, load_training_checkpoint(tmp_path / 'iter_2.pth'))
    runner.iter = 4
    resumed.after_val_epoch(runner, {'PSNR': 29.0})
    assert load_training_checkpoint(tmp_path / 'best_PSNR.pth')['meta']['iteration'] == 1


def test_the_score_of_the_resumed_iteration_counts(start_checkpoints, tmp_path):
    # Its checkpoint was written before it was validated; what a lost continuation scored does not count.
    writer = RecordWriter(tmp_path)
    for iteration, value in ((2, 20.0), (4, 30.0), (6, 40.0)):
        writer.write('val', {'iteration': iteration, 'PSNR': value})
    hook, runner = start_checkpoints(save_best='PSNR')
    hook.after_load_checkpoint(runner, {'best': 20.0})
    runner.iter = 4
    hook.before_train(runner)
    best = tmp_path / 'best_PSNR.pth'
    assert load_training_checkpoint(best)['best'] == {'PSNR': 30}  # whose file was missing: a run that ended in between
    best.unlink()
    for value in (29.0, 31.0):
        hook.after_val_epoch(runner, {'PSNR': value})
        assert best.exists() == (value > 30)


def test_the_number_of_an_earlier_version_is_taken(start_checkpoints):
    hook, runner = start_checkpoints(save_best='PSNR')
    for saved in (30.0, {'PSNR': 30.0}):
        hook.best[0].score = None
        hook.after_load_checkpoint(runner, {'best': saved})
        assert hook.best[0].score == 30
    hook.after_load_checkpoint(runner, {'best': None})
    assert hook.best[0].score is None


def test_a_file_that_an_earlier_version_kept_by_the_wrong_direction_is_replaced(start_checkpoints, tmp_path, caplog):
    writer = RecordWriter(tmp_path)
    for iteration, value in ((2, 0.978), (4, 0.950), (6, 0.977)):
        writer.write('val', {'iteration': iteration, 'blur.width': value})
    hook, runner = start_checkpoints(save_best='blur.width', interval=2)
    runner.iter = 2
    hook.best[0].score = 0.978
    hook.best[0]._save(runner)
    runner.iter = 6
    hook.before_train(runner)
    assert 'is of iteration 2, blur.width 0.9780; iteration 4 had 0.9500' in caplog.text
    runner.iter = 8
    hook.after_val_epoch(runner, {'blur.width': 0.96})
    assert load_training_checkpoint(tmp_path / 'best_blur.width.pth')['meta']['iteration'] == 8
