"""The first lines of a log."""

import pytest
import torch


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
