import csv
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
# Seconds, memory: true of one run only.
MEASURED = {'seconds_per_iteration', 'images_per_second', 'data_wait_share', 'peak_memory_gib'}
LENGTH, STOP = 9, 5
BASE = {
    'train_cfg.max_iters': LENGTH, 'train_cfg.val_interval': 4, 'default_hooks.checkpoint.interval': STOP,
    # 3 does not divide 5: the stop lies in the middle of a row's window.
    'default_hooks.logger.interval': 3, 'default_hooks.curves': None, 'default_hooks.pictures': None}


@pytest.fixture(autouse=True)
def _probes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tests/data/plugins')


def stop(how='stop', iteration=STOP):
    return {'custom_hooks': [dict(type='run_probes.StopAt', iteration=iteration, how=how)]}


def read_csv(path):
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def assert_equal_state(a, b, place=''):
    """Bitwise, type by type; names the first place that differs."""
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_equal_state(a[key], b[key], f'{place}/{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for number, pair in enumerate(zip(a, b, strict=True)):
            assert_equal_state(*pair, f'{place}/{number}')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), f'{place}: {(a.double() - b.double()).abs().max()}'
    else:
        assert a == b, place


def assert_same_run(resumed, whole, length=LENGTH):
    """Files of a resumed run and of one that was never stopped."""
    states = [torch.load(folder / f'iter_{length}.pth', weights_only=True) for folder in (resumed, whole)]
    assert {'state_dict', 'ema_state_dict', 'optimizers', 'meta', 'best'} <= states[0].keys()
    assert_equal_state(*states)
    assert read_csv(resumed / 'val.csv') == read_csv(whole / 'val.csv')
    rows, expected = (
        [{name: value for name, value in row.items() if name not in MEASURED} for row in read_csv(folder / 'train.csv')]
        for folder in (resumed, whole))
    assert rows == expected
    records = [
        [{name: value for name, value in json.loads(line).items() if name not in MEASURED}
         for line in (folder / 'log.jsonl').read_text(encoding='utf-8').splitlines()] for folder in (resumed, whole)]
    assert records[0] == records[1]


# one process

CASES = {
    'discriminator before the stop': {},
    'discriminator after the stop': {'default_hooks.discriminator.start_iter': 6},
    'discriminator at the stop': {'default_hooks.discriminator.start_iter': STOP},
    'accumulation': {'train_cfg.accumulation': 2},
    'cosine': {'default_hooks.learning_rate.decay': 'cosine'},
    'row at the stop': {'default_hooks.logger.interval': STOP},
    'validation at the stop': {'train_cfg.val_interval': STOP},
    'bf16': {'model.precision': 'bf16'},
    'no discriminator': {'model.losses.adversarial': None},
    'no average': {'default_hooks.ema': None},
    'dropout': {'model.autoencoder.dropout': 0.3},
    'workers': {'train_dataloader.num_workers': 2, 'train_cfg.accumulation': 2,
                'default_hooks.learning_rate.decay': 'cosine'},
}


@pytest.mark.parametrize('options', CASES.values(), ids=CASES)
def test_stopped_and_resumed_equals_uninterrupted(train, tmp_path, options):
    options = {**BASE, **options}
    train('tiny', tmp_path / 'whole', **options)
    train('tiny', tmp_path / 'stopped', **options, **stop())
    assert not (tmp_path / f'stopped/iter_{LENGTH}.pth').exists()
    train('tiny', tmp_path / 'stopped', '--resume', **options)
    if options.get('default_hooks.ema', True) is None:
        pytest.raises(AssertionError, assert_same_run, tmp_path / 'stopped', tmp_path / 'whole')
    else:
        assert_same_run(tmp_path / 'stopped', tmp_path / 'whole')
