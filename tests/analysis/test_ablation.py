from pathlib import Path

import pytest

from wfvae_toolkit.analysis.ablation import budget_options, config_names, plan_runs
from wfvae_toolkit.utils.config import load_config

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / 'tests/data/configs/tiny.py')
DEMO = str(ROOT / 'configs/wfvae2_demo.py')
JOINT = str(ROOT / 'configs/ablations/demo_joint.py')


def plan(folder, configs=(DEMO, JOINT), seeds=(0, 1), max_iters=100, options=None):
    return plan_runs(configs, seeds, dict.fromkeys(config_names(configs), max_iters), folder, options)


def test_every_config_has_every_seed_and_first_seeds_come_first(tmp_path):
    runs = plan(tmp_path)
    assert [(run.name, run.seed) for run in runs] == [
        ('wfvae2_demo', 0), ('demo_joint', 0), ('wfvae2_demo', 1), ('demo_joint', 1)]
    assert runs[1].folder == tmp_path / 'demo_joint/seed_0'
    assert all(run.options['randomness.seed'] == run.seed for run in runs)


def test_a_run_loads_as_the_shortened_config(tmp_path):
    run = plan(tmp_path, options={'model.losses.kl.weight': 0.5, 'val_dataloader.num_workers': 1})[0]
    cfg = load_config(run.config, run.options)
    assert (cfg.train_cfg.max_iters, cfg.model.losses.kl.weight) == (100, 0.5)
    assert (cfg.val_cfg, cfg.val_dataloader, cfg.val_evaluator) == (None, None, None)
    assert load_config(run.config, run.scoring).val_dataloader.num_workers == 1


def test_a_shorter_run_is_the_whole_run_shorter():
    """The demo is 1200 updates, 50 of warm-up, with the discriminator from 1080 on."""
    options = budget_options(load_config(DEMO), 240)
    assert options == {'train_cfg.max_iters': 240, 'default_hooks.learning_rate.warmup_iters': 10,
                       'default_hooks.discriminator.start_iter': 216, 'default_hooks.checkpoint.interval': 60}
    cfg = load_config('wfvae_toolkit::wfvae2_32x_1024.py')
    options = budget_options(cfg, 10_000)
    assert options['default_hooks.discriminator.start_iter'] == 800
    assert options['default_hooks.discriminator.train_iter'] == 0
    cfg.default_hooks.update(discriminator=None, checkpoint=None)
    assert list(budget_options(cfg, 10)) == ['train_cfg.max_iters', 'default_hooks.learning_rate.warmup_iters']


def test_options_of_the_user_win(tmp_path):
    run = plan(tmp_path, options={'default_hooks.discriminator.start_iter': 7})[0]
    assert run.options['default_hooks.discriminator.start_iter'] == 7


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(configs=(DEMO, 'wfvae_toolkit::wfvae2_demo.py')), 'no two may have the same file name'),
    (dict(configs=(DEMO, DEMO)), 'give each config once'),
    (dict(seeds=(1, 2, 1)), '--seeds 1 2 1: give each seed once'),
    (dict(options={'train_cfg.max_iters': 3, 'randomness.seed': 1}),
     'randomness.seed train_cfg.max_iters: the budget and --seeds set these'),
])
def test_what_cannot_be_a_study(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        plan(tmp_path, **settings)


def test_a_folder_belongs_to_one_setting(tmp_path):
    plan(tmp_path)[0].claim()
    plan(tmp_path)[0].claim()  # the same again
    with pytest.raises(ValueError, match=r'(?s)seed_0 holds a run with other settings.*'
                                         r'~ training.train_cfg.max_iters +100 -> 50'):
        plan(tmp_path, max_iters=50)[0].claim()
    with pytest.raises(ValueError, match=r'~ scoring.val_dataloader.batch_size +1 -> 2'):
        plan(tmp_path, options={'val_dataloader.batch_size': 2})[0].claim()
