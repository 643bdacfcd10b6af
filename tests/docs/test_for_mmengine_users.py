"""docs/for_mmengine_users.md: every convention of its table, honoured (what is seen) or refused (with which words)."""

import math
import re
from pathlib import Path

import mmengine
import pytest
import torch
from engine_parts import CountsCalls, ReadsOutputs
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from run_files import read_csv

from wfvae_toolkit.checkpoints import load_training_checkpoint, read_model
from wfvae_toolkit.schema import check_config
from wfvae_toolkit.training import TrainingRunner
from wfvae_toolkit.utils import conventions
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import SettingError, UserError

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
PAGE = (ROOT / 'docs/for_mmengine_users.md').read_text(encoding='utf-8')
NO_RATE_HOOK = 'default_hooks = dict(learning_rate=None)\n'
ROW = 'optim_wrapper = dict(autoencoder=dict({}))'


@pytest.fixture
def read(tmp_path):
    """Lines of a user's config over the tiny one, and options -> Config."""
    def write(lines, **options):
        path = tmp_path / 'config.py'
        path.write_text(f"_base_ = '{TINY}'\n{lines}\n", encoding='utf-8')
        return load_config(path, options)
    return write


@pytest.fixture
def config(read, tmp_path, photos):
    """The same with pictures, for two iterations."""
    def write(lines, **options):
        cfg = read(lines, **{
            'train_dataloader.dataset.data_root': str(photos / 'train'),
            'val_dataloader.dataset.data_root': str(photos / 'val'), 'train_cfg.max_iters': 2,
            'train_cfg.val_interval': 2, **options})
        cfg.work_dir, cfg.experiment_name = str(tmp_path / 'run'), tmp_path.name
        return cfg
    return write


# refused without building anything ----------------------------------------------------------------

TOP = [
    ('auto_scale_lr = dict(enable=True, base_batch_size=16)', 'scale optim_wrapper.autoencoder.optimizer.lr'),
    ('log_processor = dict(by_epoch=False)', 'use default_hooks.logger.interval'),
    ('log_config = dict(interval=10)', 'use default_hooks.logger'),
    ('compile = True', 'use model.compile'),
    ("activation_checkpointing = ['autoencoder.encoder']", 'use model.autoencoder.checkpoint_activations=True'),
    ('sync_bn = "torch"', 'synchronised over GPUs without a setting'),
    ('find_unused_parameters = True', 'use model_wrapper_cfg=dict(find_unused_parameters=True)'),
    ("model_wrapper_cfg = dict(_delete_=True, type='MMDistributedDataParallel')", 'give only its options'),
    ('strategy = dict(type="DeepSpeedStrategy")', 'tools/dist_train.sh CONFIG GPUS'),
    ("env_cfg = dict(dist_cfg=dict(backend='nccl'))", '--launcher opens the process group'),
    ('seed = 3', 'use randomness=dict(seed=...)'),
    ('randomness = dict(seed=0, diff_rank_seed=True)', 'one seed on all ranks'),
    ("optimizer = dict(type='SGD', lr=0.1)", 'use optim_wrapper.autoencoder.optimizer'),
    ('optimizer_config = dict(grad_clip=None)', 'use optim_wrapper.autoencoder.clip_grad'),
    ('lr_config = dict(policy="step")', 'use default_hooks.learning_rate, or param_scheduler'),
    ('checkpoint_config = dict(interval=1)', 'use default_hooks.checkpoint'),
    ('evaluation = dict(interval=1)', 'use val_evaluator and train_cfg.val_interval'),
    ('workflow = [("train", 1)]', 'use train_cfg.val_interval'),
    ('total_epochs = 3', 'use train_cfg.max_iters'),
    ('test_dataloader = dict(batch_size=1)', 'tools/test.py scores val_dataloader'),
    ("test_cfg = dict(type='TestLoop')", 'tools/test.py needs none'),
    ('test_evaluator = []\ntest_evaluator = dict(type="Evaluator")', 'tools/test.py scores with val_evaluator'),
    ('tta_model = dict(type="BaseTTAModel")', 'no test-time augmentation'),
    ("vis_backends = [dict(type='LocalVisBackend')]", 'use visualizer=dict'),
    ('with read_base():\n    from .base import *', 'lazy style is not read here'),
    ("train_pipeline = [dict(type='CenterCrop', size=16)]", 'the config has no train_pipeline'),
    ("data_preprocessor = dict(type='ImgDataPreprocessor', mean=[127])", 'without mean and std'),
    ("model = dict(data_preprocessor=dict(type='ImgDataPreprocessor'))", 'without mean and std'),
]
OPTIMIZERS = [
    ("optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))", 'each network has its own'),
    ('optim_wrapper = dict(clip_grad=dict(max_norm=1.0))', 'each network has its own'),
    (ROW.format("type='AmpOptimWrapper'"), "use model.precision='bf16' or 'fp16'"),
    (ROW.format("dtype='float16'"), 'use model.precision'),
    (ROW.format("loss_scale='dynamic'"), 'scales by itself'),
    (ROW.format('accumulative_counts=4'), 'use train_cfg.accumulation'),
    (ROW.format('clip_grad=dict(type="value", clip_value=1.0)'), 'the L2 norm of all gradients is clipped'),
    (ROW.format('clip_grad=dict(norm_type=1)'), 'the norm is L2'),
    (ROW.format('paramwise_cfg=dict(norm_decay=0.0)'), 'norm_decay_mult?'),
]
LOOPS = [
    ("train_cfg = dict(type='IterBasedTrainLoop')", "MMEngine's IterBasedTrainLoop is not used here; leave type out"),
    ("train_cfg = dict(type='EpochBasedTrainLoop')", 'counts updates of weights'),
    ('train_cfg = dict(by_epoch=True)', 'the loop counts iterations'),
    ('train_cfg = dict(max_epochs=3)', 'set max_iters'),
    ('train_cfg = dict(val_begin=3)', 'the first multiple of val_interval'),
    ('train_cfg = dict(dynamic_intervals=[(1, 1)])', 'val_interval is one number'),
    ("val_cfg = dict(type='ValLoop')", 'EvaluationLoop scores averaged and raw weights'),
    ("val_evaluator = dict(_delete_=True, type='Evaluator', metrics=[])", 'use ReconstructionEvaluator'),
    ("val_evaluator = dict(metrics=[dict(type='PSNR')])", 'use a dict of named rows'),
    ("train_dataloader = dict(sampler=dict(type='InfiniteSampler'))", 'use shuffle=False'),
    ("train_dataloader = dict(batch_sampler=dict(type='BatchSampler'))", 'use batch_size'),
    ("train_dataloader = dict(collate_fn=dict(type='pseudo_collate'))", 'leave it out'),
    ('val_dataloader = dict(drop_last=True)', 'evaluation takes every picture'),
    ('train_dataloader = dict(num_batch_per_epoch=3)', 'use train_cfg.max_iters'),
    *((f"train_dataloader = dict(dataset=dict(_delete_=True, type='{name}'))", conventions.PARTS[name])
      for name in ('ConcatDataset', 'ClassBalancedDataset', 'RepeatDataset')),
]
HOOKS = [
    *((f"custom_hooks = [dict(type='mmengine.{name}')]", conventions.PARTS[name])
      for name in ('CheckpointHook', 'LoggerHook', 'EMAHook', 'ParamSchedulerHook', 'EarlyStoppingHook')),
    *((f"custom_hooks = [dict(type='{name}')]", conventions.PARTS[name])
      for name in ('SyncBuffersHook', 'DistSamplerSeedHook', 'NaiveVisualizationHook', 'PrepareTTAHook',
                   'NPUProfilerHook')),
    *((f'default_hooks = dict({row}=dict({name}=1))', advice)
      for row, part in (('checkpoint', 'CheckpointHook'), ('ema', 'EMAHook'), ('logger', 'LoggerHook'))
      for name, advice in conventions.SETTINGS[part].items()),
    ("custom_hooks = [dict(type='EarlyStoppingHook', monitor='PSNR', strict=True)]", 'always an error'),
    ("custom_hooks = [dict(type='NoSuchHook')]", "no hook is called 'NoSuchHook'"),
]


@pytest.mark.parametrize(('lines', 'words'), [*TOP, *OPTIMIZERS, *LOOPS, *HOOKS],
                         ids=lambda part: re.sub(r'\W+', ' ', part)[:60])
def test_refused(read, lines, words):
    with pytest.raises(UserError, match=re.escape(words)):
        check_config(read(lines))


@pytest.mark.parametrize('lines', [
    'auto_scale_lr = None', 'log_processor = None', 'test_dataloader = test_cfg = test_evaluator = None',
    "launcher = 'none'", 'load_from = None', 'param_scheduler = None', 'compile_ = 1\ndel compile_',
    "steps = [dict(type='CenterCrop', size=16)]\ntrain_dataloader = dict(dataset=dict(pipeline=steps))"])
def test_what_changes_nothing_is_accepted(read, lines):
    check_config(read(lines))


# refused when the runner is made or starts ---------------------------------------------------------

@pytest.mark.parametrize(('lines', 'words'), [
    ("param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False)]",
     r'both set the learning rate; add default_hooks=dict\(learning_rate=None\)'),
    (NO_RATE_HOOK + "param_scheduler = [dict(type='CosineAnnealingLR', T_max=100)]", 'set by_epoch=False and count in'),
    (NO_RATE_HOOK + "param_scheduler = [dict(type='LinearLR', by_epoch=True, convert_to_iter_based=True)]",
     'there are no epochs here'),
    (NO_RATE_HOOK + "param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='PSNR')]", 'its rates depend on scores'),
    (NO_RATE_HOOK + "param_scheduler = [dict(type='LinearLR', begin=7, by_epoch=False)]",
     'begin=7: the run ends earlier, at train_cfg.max_iters=2'),
    (ROW.format("paramwise_cfg=dict(custom_keys={'encodr': dict(lr_mult=0.1)})"), "'encodr' occurs in no parameter "
                "name"),
    ("default_hooks = dict(checkpoint=dict(save_best='PSNR', best_is_higher=False))", 'higher is better'),
    ("default_hooks = dict(checkpoint=dict(save_best='acc'))", "'acc' is never measured"),
    ("custom_hooks = [dict(type='EarlyStoppingHook', monitor='PSNR', rule='less')]", 'greater is better, but rule='),
    ("custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc')]", "'acc' is never measured"),
    ("custom_hooks = [dict(type='ProfilerHook', by_epoch=False, profile_times=99)]", 'ProfilerHook: .*not be greater'),
    ("custom_hooks = [dict(type='EmptyCacheHook', priority='SOON')]", "priority='SOON': HIGHEST"),
    ("default_hooks = dict(checkpoint=dict(save_best='error.mean'))\nval_evaluator = dict(metrics=dict("
     "error=dict(type='engine_parts.WholeSetError')))", 'add higher_is_better=True or False to its row'),
    ("val_evaluator = dict(metrics=dict(SSIM=dict(type='SSIM', higher_is_better=False)))", 'metric sets it itself'),
])
def test_refused_before_the_first_iteration(config, lines, words):
    with pytest.raises(UserError, match=words):
        TrainingRunner.from_cfg(config(lines)).train()


def test_another_runner_is_refused(config, monkeypatch):
    # It collects versions by an import of torchvision, which not every machine can do.
    monkeypatch.setattr(Runner, '_log_env', lambda *arguments: None)
    cfg = config('')
    del cfg.default_hooks['memory']  # MMEngine's takes no None
    for call in (lambda: Runner.from_cfg(cfg).train(), lambda: Runner.from_cfg(cfg).val()):
        with pytest.raises(SettingError, match=r'is run by wfvae_toolkit.training.TrainingRunner.from_cfg\(cfg\)'):
            call()


def test_configs_of_packages_need_our_reader(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("_base_ = 'wfvae_toolkit::_base_/runtime.py'\n")
    with pytest.raises(AssertionError, match='does not support to load wfvae_toolkit'):
        mmengine.Config.fromfile(path)
    assert load_config(path).train_cfg.type == 'UpdateLoop'
    assert mmengine.Config.fromfile(ROOT / 'configs/wfvae2_demo.py').train_cfg.type == 'UpdateLoop'


# honoured: one run that has them all ---------------------------------------------------------------

ALL = """
from torch.optim import SGD
from wfvae_toolkit.models.autoencoders import WFVAE2Image

model = dict(autoencoder=dict(type=WFVAE2Image, wavelet=dict(type='wfvae_toolkit.models.wavelets.Haar')))
default_hooks = dict(
    learning_rate=None, header=None, curves=None, pictures=None, flat_fields=None,
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(interval=1, max_keep_ckpts=-1, save_best=['auto', 'error.mean'], priority='VERY_LOW'))
custom_imports = dict(imports=['engine_parts'])
custom_hooks = [
    dict(type='RuntimeInfoHook'), dict(type='IterTimerHook'), dict(type='EmptyCacheHook', after_iter=True),
    dict(type='ProfilerHook', by_epoch=False, profile_times=2, on_trace_ready=dict(type='log_trace')),
    dict(type='EarlyStoppingHook', monitor='PSNR', min_delta=100.0, patience=1),
    dict(type='engine_parts.ReadsOutputs'), dict(type='engine_parts.WritesToHub', priority=45),
    dict(type='engine_parts.CountsCalls')]
param_scheduler = dict(
    autoencoder=[dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=2),
                 dict(type='PolyLR', by_epoch=False, begin=2)],
    discriminator=dict(type='ConstantLR', factor=0.5, by_epoch=False, end=3))
optim_wrapper = dict(
    autoencoder=dict(type='OptimWrapper', clip_grad=dict(max_norm=10.0, norm_type=2), paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys={'encoder.conv_in': dict(lr_mult=0.1)})),
    discriminator=dict(constructor='DefaultOptimWrapperConstructor', optimizer=dict(_delete_=True, type=SGD, lr=1e-3)))
data_preprocessor = dict(type='ImagePreprocessor')
model_wrapper_cfg = dict(_delete_=True, find_unused_parameters=True)
randomness = dict(seed=0, deterministic=False)
runner_type = 'TrainingRunner'
visualizer = dict(_delete_=True, type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
val_evaluator = dict(metrics=dict(
    error=dict(type='WholeSetError', higher_is_better=False), undefined=dict(type='engine_parts.Undefined'),
    LPIPS=dict(type='LPIPS', trunk_weights='nowhere.pth', optional=True)))
train_cfg = dict(max_iters=20, val_interval=3)
"""


@pytest.fixture(scope='module')
def run(train, tmp_path_factory):
    """The folder of a run with ALL, which its EarlyStoppingHook ends at the second validation."""
    folder = tmp_path_factory.mktemp('all')
    (folder / 'config.py').write_text(f"_base_ = '{TINY}'\n{ALL}", encoding='utf-8')
    train(folder / 'config.py', folder / 'run', **{'default_hooks.logger.interval': 3})
    return folder / 'run'


def column(run, name, phase='train'):
    return [float(row[name]) for row in read_csv(run / f'{phase}.csv')]


def test_early_stopping_needs_no_rule(run):
    assert [row['iteration'] for row in read_csv(run / 'val.csv')] == ['3', '6']


def test_schedulers_set_the_rates(run):
    poly = 1 - (6 - 1 - 2) / (20 - 1 - 2)
    assert column(run, 'learning_rate/autoencoder')[-1] == pytest.approx(0.1 * 1e-3 * poly, rel=0.1)
    assert column(run, 'learning_rate/discriminator') == pytest.approx([1e-3, 1e-3])


def test_paramwise_groups_have_their_rates_and_decays(run):
    groups = load_training_checkpoint(run / 'iter_6.pth')['optimizers']['autoencoder']['param_groups']
    rates = sorted({group['initial_lr'] for group in groups})
    assert rates == pytest.approx([1e-4, 1e-3])
    assert {group['weight_decay'] for group in groups} == {0.0, 1e-4}


def test_outputs_are_a_mapping_of_scalars(run):
    assert len(ReadsOutputs.seen) == 6
    assert all(math.isfinite(loss) for loss in ReadsOutputs.seen)


def test_the_message_hub_reaches_the_log(run):
    assert column(run, 'temperature') == [1.0, 4.0]  # means of 0, 1, 2 and 3, 4, 5
    assert column(run, 'without_prefix') == [2.0, 8.0]
    assert column(run, 'temperature', 'val') == [36.6, 36.6]
    assert min(column(run, 'time')) > 0  # of IterTimerHook


def test_the_stages_of_a_validation_are_called(run):
    assert CountsCalls.calls == {'before_val_iter': 4, 'after_val_iter': 4}


def test_whole_set_metrics_are_columns_that_may_be_best(run):
    errors = column(run, 'error.mean', 'val')
    assert column(run, 'raw/error.mean', 'val') != errors
    assert all(worst >= mean for worst, mean in zip(column(run, 'error.of.worst', 'val'), errors, strict=True))
    best = load_training_checkpoint(run / 'best_error.mean.pth')
    assert best['best']['error.mean'] == min(errors)
    assert {path.name for path in run.glob('best_*')} == {'best_PSNR.pth', 'best_error.mean.pth'}
    assert 'undefined.mean' not in read_csv(run / 'val.csv')[0]


def test_minus_1_keeps_all_checkpoints(run):
    assert {path.name for path in run.glob('iter_*')} == {f'iter_{n}.pth' for n in range(1, 7)}


def test_classes_and_dotted_paths_are_kept_by_their_names(run):
    config = read_model(run / 'iter_6.pth').config
    assert (config['type'], config['wavelet']['type']) == ('WFVAE2Image', 'Haar')


def test_what_is_not_measured_is_said_once(run):
    said = [line for path in run.glob('*/*.log') for line in path.read_text().splitlines()
            if 'val_evaluator.metrics.LPIPS is not measured: ' in line]
    assert len(said) == 1
    assert 'nowhere.pth' in said[0]


def test_local_backend_writes(run):
    assert (run / 'vis_data/scalars.json').is_file()


def test_a_stopped_run_stays_stopped_and_a_new_patience_goes_on(run, train, tmp_path_factory):
    config = run.parent / 'config.py'
    train(config, run, '--resume', **{'default_hooks.logger.interval': 3})
    assert len(read_csv(run / 'val.csv')) == 2
    train(config, run, '--resume', '--resume-drop', 'early_stop',
          **{'default_hooks.logger.interval': 3, 'custom_hooks.4.patience': 2})
    assert [row['iteration'] for row in read_csv(run / 'val.csv')] == ['3', '6', '9']
    assert column(run, 'temperature') == [1.0, 4.0, 7.0]


# honoured: from Python -----------------------------------------------------------------------------

@pytest.fixture
def runner(config):
    return RUNNERS.build(config("runner_type = 'TrainingRunner'", **{
        'train_cfg.max_iters': 4, 'default_hooks.checkpoint.interval': 2, 'default_hooks.header': None,
        'default_hooks.flat_fields': None}))


def files(runner):
    """Name -> bytes of what a run wrote, but for its console log."""
    return {path: path.read_bytes() for path in Path(runner.work_dir).rglob('*')
            if path.is_file() and path.suffix != '.log'}


def test_calls_in_any_order(runner):
    before = runner.val()
    assert before['PSNR'] == before['raw/PSNR']  # nothing is averaged yet
    runner.train()
    rows, written = read_csv(Path(runner.work_dir) / 'val.csv'), files(runner)
    average = {name: value.clone() for name, value in runner.averaged_autoencoder.state_dict().items()}
    scores = runner.val()
    assert scores['PSNR'] == float(rows[-1]['PSNR']) != before['PSNR']
    assert scores['raw/PSNR'] == float(rows[-1]['raw/PSNR'])
    assert runner.val() == scores
    runner.train()  # nothing is left to do
    assert files(runner) == written
    for name, value in runner.averaged_autoencoder.state_dict().items():
        assert torch.equal(value, average[name]), name

    runner.resume(Path(runner.work_dir) / 'iter_2.pth')
    assert runner.iter == 2
    assert runner.val()['PSNR'] == float(rows[0]['PSNR'])
    runner.train()
    assert read_csv(Path(runner.work_dir) / 'val.csv') == rows
    for name, value in runner.averaged_autoencoder.state_dict().items():
        assert torch.equal(value, average[name]), name
    with pytest.raises(SettingError, match='tools/test.py CONFIG MODEL'):
        runner.test()
    for call in (runner.load_checkpoint, runner.save_checkpoint):
        with pytest.raises(SettingError, match='checkpoint'):
            call('iter_2.pth')


def test_resume_of_files_that_were_moved_aside_says_so(runner, config):
    runner.train()
    again = TrainingRunner.from_cfg(config(''))
    with pytest.raises(SettingError, match='were moved to .*before_.* when this runner was made; set cfg.resume'):
        again.resume(Path(runner.work_dir) / 'iter_4.pth')


# the page ------------------------------------------------------------------------------------------

def test_the_page_names_every_convention():
    named = re.findall(r'`([^`\n]+)`', PAGE)
    words = {word for text in named for word in re.findall(r'[\w.]+', text)} | set(re.findall(r'\w+', PAGE))
    for part in conventions.PARTS:
        if not part.startswith('Base'):
            assert part in words or f'mmengine.{part}' in words, part
    for lines, _ in (*TOP, *OPTIMIZERS):
        key = re.match(r'\w+', lines.split('dict(autoencoder=dict(')[-1] if lines.startswith(ROW[:20]) else lines)[0]
        assert key in words, key


def test_the_configs_of_the_page_are_good(tmp_path, read):
    blocks = re.findall(r'^```python\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    schedulers, metrics = blocks
    path = tmp_path / 'page.py'
    path.write_text(schedulers)
    check_config(load_config(path))
    check_config(read(metrics.replace('my_package.metrics', 'engine_parts').replace('MyMetric', 'WholeSetError')))
