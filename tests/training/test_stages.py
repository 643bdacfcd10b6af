"""One config trains on pictures that grow: each stage has its size and batch, and samples go on from stage to stage."""

import pytest
import torch

from tests.short_runs import BASE
from wfvae_toolkit.training.stages import Stage, pictures_between, read_stages, stage_at
from wfvae_toolkit.utils.errors import SettingError

GROWING = [dict(start_iter=0, size=8, batch_size=4), dict(start_iter=3, size=16, batch_size=2),
           dict(start_iter=5, size=32, accumulation=3)]


def test_a_stage_takes_what_it_leaves_out_from_the_one_before():
    assert read_stages(None, 5, 6) == [Stage(0, None, 5, 6)]
    stages = read_stages(GROWING, 7, 1)
    assert stages == [Stage(0, 8, 4, 1), Stage(3, 16, 2, 1), Stage(5, 32, 2, 3)]
    assert [stage_at(stages, iteration).size for iteration in range(7)] == [8, 8, 8, 16, 16, 32, 32]
    assert [pictures_between(stages, *span) for span in ((0, 3), (2, 4), (0, 6), (5, 9), (4, 4))] == [12, 6, 22, 24, 0]


@pytest.mark.parametrize(('stages', 'words'), [
    ([dict(size=8)], r'stages.0=.*use dict\(start_iter=1000'), ([dict(start_iter=0, sizes=8)], 'use dict'),
    ([3], 'use dict'),
    ([dict(start_iter=1, size=8)], 'the first stage begins at 0'),
    ([dict(start_iter=0, size=8), dict(start_iter=0, size=16)], 'a stage begins after the one before, .* at 0'),
    ([dict(start_iter=0, size=0)], 'stages.0.size=0: use a whole number from 1'),
    ([dict(start_iter=0, batch_size=1.5)], 'batch_size=1.5'), ([dict(start_iter=0, batch_size=None)], '_size=None'),
    ([dict(start_iter=0), dict(start_iter=2, size=16)], 'give the first stage a size too')])
def test_what_cannot_work_is_refused(stages, words):
    with pytest.raises(SettingError, match=words):
        read_stages(stages, 1, 1)


@pytest.fixture(scope='module')
def run(train, tmp_path_factory):
    """A run through all stages, with the shapes and positions of its batches."""
    folder = tmp_path_factory.mktemp('run')
    stages = [*GROWING, dict(start_iter=9, size=64)]
    train('tiny', folder, **{**options(custom_hooks=[dict(type='run_probes.BatchRecord')]), 'train_cfg.stages': stages})
    return folder


def options(**more):
    return {**BASE, 'model.normalize': True, 'train_cfg.max_iters': 7, 'train_cfg.stages': GROWING, **more}


def test_sizes_batches_and_positions_follow_each_other(run):
    rows = torch.load(run / 'batches.pth')
    assert [row['shapes'] for row in rows] == [[(4, 3, 8, 8)]] * 3 + [[(2, 3, 16, 16)]] * 2 + [[(2, 3, 32, 32)] * 3] * 2
    assert [position for row in rows for position in row['positions']] == list(range(12 + 4 + 12))
    assert torch.load(run / 'iter_7.pth')['meta']['consumed'] == 28
    assert torch.load(run / 'iter_7.pth')['meta']['run']['images_per_iteration'] == [4, 2, 6, 6]


def test_the_log_says_where_a_stage_begins_and_which_is_not_reached(run):
    log = next(run.glob('*/*.log')).read_text()
    assert 'from iteration 3 on: crops of 16 px, batches of 2, 1 an update' in log
    assert 'from iteration 5 on: crops of 32 px, batches of 2, 3 an update' in log
    assert 'the one from iteration 9 is not reached, because train_cfg.max_iters=7' in log


@pytest.mark.parametrize(('changes', 'words'), [
    ({'model.normalize': False}, 'the size changes, and with it the scale of the loss, .*: set model.normalize=True'),
    ({'train_cfg.stages': [dict(start_iter=0, size=8), dict(start_iter=3, size=18)]}, 'crops of 18 px: use a multiple'),
    ({'train_dataloader.dataset.pipeline': [dict(type='ResizeShortSide', size=20), dict(type='CenterCrop', size=16)]},
     r'train_cfg.stages.*size=\d+: the size can be set where .* have one size; here they have \[20, 16\]'),
    ({'train_cfg.stages': [dict(start_iter=0, size='large')]}, 'train_cfg.stages.0.size'),
    ({'train_cfg.stages': [dict(start_iter=0, edge=8)]}, 'train_cfg.stages.0.*edge')])
def test_a_run_that_cannot_grow_ends_before_it_starts(train, tmp_path, changes, words):
    with pytest.raises(SystemExit, match=words):
        train('tiny', tmp_path, **options(**changes))
