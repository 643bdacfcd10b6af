"""The first lines of a log."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from wfvae_toolkit.hooks.header import SHOWN, describe_config
from wfvae_toolkit.utils.config import load_config


@pytest.mark.parametrize(('precision', 'has_amx', 'warned'), [
    ('bf16', False, True), ('bf16', True, False), ('fp32', False, False)])
def test_a_slower_precision_is_said(train, tmp_path, monkeypatch, precision, has_amx, warned):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: has_amx)
    run = train('tiny', tmp_path / 'run', **{
        'model.precision': precision, 'train_cfg.max_iters': 1, 'default_hooks.checkpoint': None,
        'default_hooks.pictures': None, 'default_hooks.curves': None})
    log, = run.rglob('*.log')
    text = log.read_text(encoding='utf-8')
    assert 'encoder: ' in text
    assert ("precision='bf16': this CPU has no AMX" in text) is warned


def test_the_log_begins_with_one_screen(train, tmp_path):
    run = train('tiny', tmp_path / 'run', **{
        'train_cfg.max_iters': 1, 'model.losses.kl.weight': 0.5, 'default_hooks.checkpoint': None,
        'default_hooks.pictures': None, 'default_hooks.curves': None})
    log, = run.rglob('*.log')
    lines = log.read_text(encoding='utf-8').splitlines()
    first = next(number for number, line in enumerate(lines) if line.endswith(' - run'))
    last = next(number for number, line in enumerate(lines) if 'iter 1/1' in line)
    assert last - first <= 40
    assert 'tiny.py' in ''.join(line for line in lines if 'config: ' in line)


def test_what_differs_from_the_shipped_config_is_shown(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = 'wfvae_toolkit::wfvae2_demo.py'\n"
                                      'model = dict(losses=dict(kl=dict(weight=0.5)))\n')
    runner = SimpleNamespace(cfg=load_config(tmp_path / 'mine.py', {'train_cfg.max_iters': 1201}), work_dir=tmp_path)
    first, *others = describe_config(runner)
    assert first == f'config: {tmp_path}/mine.py; it differs from the shipped wfvae2_demo.py in'
    assert others == ['model.losses.kl.weight: 1e-06 -> 0.5', 'train_cfg.max_iters: 1200 -> 1201']


def test_many_differences_are_counted(tmp_path):
    runner = SimpleNamespace(cfg=load_config('wfvae_toolkit::wfvae2_1024.py', {
        f'model.losses.row{number}': dict(type='L1Loss') for number in range(SHOWN + 3)}), work_dir=tmp_path)
    assert describe_config(runner)[SHOWN + 1:] == ['and 3 others']


@pytest.mark.parametrize(('config', 'expected'), [
    ('wfvae_toolkit::ablations/demo_joint.py', ', as shipped: ablations/demo_joint.py'),
    (None, 'config: not from a file; it inherits no shipped config')])
def test_a_shipped_config_and_one_without_a_file(tmp_path, config, expected):
    cfg = load_config(config) if config else Config(dict(model=dict(type='AutoencoderTraining')))
    line, = describe_config(SimpleNamespace(cfg=cfg, work_dir=tmp_path))
    assert line.endswith(expected)
