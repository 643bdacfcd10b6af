"""Comparing what two runs left in their folders."""

import csv
import json

import torch

from wfvae_toolkit.training.resume import class_of

# Seconds, memory: true of one run only.
MEASURED = {'seconds_per_iteration', 'images_per_second', 'data_wait_share', 'peak_memory_gib'}


def read_csv(path):
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def read_state(path):
    """A training checkpoint, of its run's settings only those that numbers can depend on.

    Hooks of the run's own are left out: one that kills the run is in the config of its restart too.
    """
    state = torch.load(path, weights_only=True)
    run = state['meta']['run']
    run['settings'] = {key: value for key, value in run['settings'].items()
                       if class_of(key).effect != 'no effect' and not key.startswith('custom_hooks')}
    return state


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


def assert_same_run(resumed, whole, length):
    """Files of a resumed run and of one that was never stopped."""
    states = [read_state(folder / f'iter_{length}.pth') for folder in (resumed, whole)]
    assert {'state_dict', 'optimizers', 'meta', 'best', 'log_window'} <= states[0].keys()
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
