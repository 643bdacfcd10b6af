import json
import logging
from types import SimpleNamespace

import pytest
import torch

from wfvae_toolkit.evaluation import flat_fields
from wfvae_toolkit.hooks import FlatFieldHook
from wfvae_toolkit.utils.errors import SettingError


def field(colour, **values):
    return flat_fields.FlatField(colour, **{**dict(grid=0.1, stripes=0.1, rest=0.1, offset=0.1), **values})


@pytest.fixture
def check(monkeypatch):
    """Runs the hook after a validation on given fields; returns the metrics."""
    def run(*fields, iteration=10, **options):
        monkeypatch.setattr('wfvae_toolkit.hooks.flat_fields.measure_flat_fields', lambda *_: list(fields))
        metrics = {'PSNR': 30.0}
        runner = SimpleNamespace(iter=iteration, max_iters=1000, train_loop=SimpleNamespace(val_interval=10),
                                 in_training=True, averaged_autoencoder=None, model=SimpleNamespace(autoencoder=None),
                                 logger=logging.getLogger('flat fields'))
        FlatFieldHook(**options).after_val_epoch(runner, metrics)
        return metrics
    return run


def test_the_worst_colour_is_reported(check):
    assert check(field((0, 0, 0), grid=0.4), field((9, 9, 9), stripes=0.3, offset=4.0)) == {
        'PSNR': 30.0, 'flat/grid': 0.4, 'flat/stripes': 0.3, 'flat/offset': 4.0}


def test_a_visible_pattern_is_a_warning(check, caplog):
    check(field((1, 2, 3), grid=0.49, stripes=0.49, offset=30.0, rest=9.0))
    assert not caplog.records
    check(field((1, 2, 3), grid=0.49, stripes=0.51))
    record, = caplog.records
    assert record.levelno == logging.WARNING
    assert 'stripes of 0.51 levels RMS at RGB (1, 2, 3)' in record.message


@pytest.mark.parametrize(('interval', 'checked'), [(1, [10, 20, 30, 40]), (20, [20, 40]), (25, [30]), (1000, [])])
def test_interval_counts_updates(check, interval, checked):
    assert [iteration for iteration in (10, 20, 30, 40)
            if 'flat/grid' in check(field((0, 0, 0)), iteration=iteration, interval=interval)] == checked
    assert 'flat/grid' in check(field((0, 0, 0)), iteration=1000, interval=interval)


@pytest.mark.parametrize('options', [dict(interval=0), dict(levels=[]), dict(levels=[256]), dict(levels=[(0, 0, -1)])])
def test_wrong_settings(options):
    with pytest.raises(SettingError, match='FlatFieldHook: '):
        FlatFieldHook(**options)


def test_a_run_logs_it_and_trains_the_same(train, tmp_path):
    short = {'train_cfg.max_iters': 4, 'train_cfg.val_interval': 2, 'default_hooks.curves': None,
             'default_hooks.pictures': None}
    train('tiny', tmp_path / 'with', **short)
    train('tiny', tmp_path / 'without', **short, **{'default_hooks.flat_fields': None})
    rows = [json.loads(line) for line in (tmp_path / 'with/log.jsonl').read_text().splitlines()]
    validations = [row for row in rows if row['phase'] == 'val']
    assert [row['iteration'] for row in validations] == [2, 4]
    assert all(row[f'flat/{name}'] >= 0 for row in validations for name in ('grid', 'stripes', 'offset'))
    states = [torch.load(tmp_path / run / 'iter_4.pth', weights_only=True)['state_dict']
              for run in ('with', 'without')]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
