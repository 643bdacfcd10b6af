"""Whole runs through the tools: exact resume, and NCCL with one rank."""

import os
from pathlib import Path

import pytest
import torch

from wfvae_toolkit.checkpoints import load_training_checkpoint

pytestmark = pytest.mark.gpu

CONFIG = 'tests/data/configs/made_up.py'
# Packages may lie in a folder of their own, on a machine that installs none.
PATH = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get('PYTHONPATH')])])


def differing(first, second, place=''):
    """Places of a nested dict or list at which two values are not equal bit for bit."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [place]
    if isinstance(first, (dict, list, tuple)):
        keys = first.keys() if isinstance(first, dict) else range(len(first))
        assert len(first) == len(second)
        return [found for key in keys for found in differing(first[key], second[key], f'{place}.{key}')]
    return [] if first == second else [place]


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(precision, tool, tmp_path, any_algorithm):
    def run(folder, iterations, *arguments):
        tool('train')(CONFIG, '--work-dir', tmp_path / folder, *arguments, '--cfg-options',
                      f'train_cfg.max_iters={iterations}', f'model.precision={precision}',
                      'default_hooks.pictures=None',
                      f'experiment_name=gpu_{precision}_{folder}_{iterations}', 'randomness.deterministic=True')

    run('whole', 6)
    run('parts', 3)
    run('parts', 6, '--resume')
    whole, parts = (load_training_checkpoint(tmp_path / folder / 'iter_6.pth') for folder in ('whole', 'parts'))
    for part in ('state_dict', 'ema_state_dict', 'optimizers'):
        assert differing(whole[part], parts[part]) == []


def test_one_rank_trains_and_resumes_through_dist_train(launch, device, tmp_path):
    def run(iterations, *arguments):
        return launch('tools/dist_train.sh', CONFIG, 1, '--work-dir', tmp_path / 'run', *arguments, '--cfg-options',
                      f'train_cfg.max_iters={iterations}', env={'NCCL_DEBUG': 'INFO', 'PYTHONPATH': PATH}).stdout

    first = run(3)
    assert ('NCCL version' in first) == (device.type == 'cuda')
    second = run(6, '--resume')
    assert 'iter_3' in second
    assert {path.name for path in (tmp_path / 'run').glob('iter_*.pth')} == {'iter_3.pth', 'iter_6.pth'}
    rows = (tmp_path / 'run/train.csv').read_text(encoding='utf-8').splitlines()
    assert rows[-1].startswith('6,')
    assert os.path.getsize(tmp_path / 'run/val.csv') > 0
