"""The hook of docs/logging.md logs its number in a run."""

import csv
from pathlib import Path

import pytest

from wfvae_toolkit.registry import HOOKS

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'


@pytest.fixture
def weight_norm_hook(page):
    """The class of the page; its name is free again afterwards."""
    block, = (block for block in page('logging.md').blocks('python') if 'log_number' in block)
    namespace = {}
    exec(compile(block, 'docs/logging.md', 'exec'), namespace)
    yield namespace['WeightNormHook']
    del HOOKS.module_dict['WeightNormHook']


def test_a_number_of_a_hook_stands_in_the_log(weight_norm_hook, train, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{TINY}'\ncustom_hooks = [dict(type='WeightNormHook')]\n"
                      "val_evaluator = dict(metrics=dict(pooled=dict(type='PooledPSNR')))\n"
                      "visualizer = dict(vis_backends=[dict(type='TensorboardVisBackend')])\n", encoding='utf-8')
    train(config, tmp_path, **{'train_cfg.max_iters': 4, 'train_cfg.val_interval': 4,
                               'default_hooks.logger.interval': 2, 'default_hooks.curves': None,
                               'default_hooks.pictures': None, 'default_hooks.checkpoint.save_best': 'raw/pooled'})
    with open(tmp_path / 'train.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    norms = [float(row['weight_norm']) for row in rows]
    assert len(norms) == 2
    assert norms[0] != norms[1]
    console, = tmp_path.glob('*/*.log')
    assert f'weight_norm {norms[0]:.4g}' in console.read_text(encoding='utf-8')
    assert (tmp_path / 'best_raw_pooled.pth').is_file()
    assert any(b'train/weight_norm' in path.read_bytes() for path in (tmp_path / 'vis_data').rglob('*tfevents*'))
