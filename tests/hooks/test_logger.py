"""Numbers that hooks add to the log by `LoggerHook.log_number`."""

import math
from types import SimpleNamespace

import pytest
import torch

from wfvae_toolkit.hooks import logger
from wfvae_toolkit.hooks.logger import LoggerHook
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.visualization.records import RecordWriter


class FakeRunner:
    """As much of a runner as the hook touches; ``rows`` are what visualizers get, ``said`` what the console gets."""

    def __init__(self):
        self.rows, self.said, self.warnings = [], [], []
        self.iter, self.max_iters, self.in_training = 0, 100, True
        self.message_hub = SimpleNamespace(log_scalars={})
        self.optim_wrapper = {'autoencoder': SimpleNamespace(param_groups=[{'lr': 1e-3}])}
        self.train_loop = SimpleNamespace(skipped=0, images_between=lambda first, end: end - first, data_seconds=0.0)
        self.visualizer = SimpleNamespace(add_scalars=lambda scalars, step: None)
        self.logger = SimpleNamespace(info=self.said.append, warning=self.warnings.append)

    def call_hook(self, name, phase, row):
        self.rows.append((phase, row))


@pytest.fixture
def runner():
    return FakeRunner()


def make_hook(runner, interval=2):
    hook = LoggerHook(interval)
    hook.records = None
    hook._start_clock(0)
    return hook


def train(hook, runner, iterations):
    for iteration in iterations:
        hook.after_train_iter(runner, iteration, outputs=SimpleNamespace(log={'loss': torch.tensor(1.0)}))


def test_a_row_has_the_mean_of_the_calls_in_its_window(runner):
    hook = make_hook(runner)
    for iteration, value in enumerate([1.0, torch.tensor(2.0), 3, 7.0]):
        hook.log_number('mine/temperature', value)
        train(hook, runner, [iteration])
    assert [row['mine/temperature'] for _, row in runner.rows] == [1.5, 5.0]
    assert 'mine/temperature 1.5' in runner.said[0]


def test_an_iteration_without_a_call_does_not_count(runner):
    hook = make_hook(runner, interval=3)
    train(hook, runner, [0])
    hook.log_number('rare', 4.0)
    train(hook, runner, [1, 2, 3, 4, 5])
    assert runner.rows[0][1]['rare'] == 4.0
    assert 'rare' not in runner.rows[1][1]


def test_a_validation_has_its_own_numbers(runner):
    hook = make_hook(runner)
    hook.log_number('mine', 1.0)
    hook.log_number('mine', 5.0, phase='val')
    hook.after_val_epoch(runner, {'PSNR': 20.0})
    assert runner.rows == [('val', {'iteration': 0, 'PSNR': 20.0, 'mine': 5.0})]
    assert 'mine 5.0000' in runner.said[0]
    train(hook, runner, [0, 1])
    assert runner.rows[1][1]['mine'] == 1.0


def test_ranks_add_their_sums_and_counts(runner, monkeypatch):
    """Rank 1 called once with 10 and knows a name of its own."""
    hook = make_hook(runner)
    monkeypatch.setattr(logger.distributed, 'gather', lambda mine: [mine, {'mine': (10.0, 1), 'theirs': (3.0, 2)}])
    for iteration, value in enumerate([1.0, 4.0]):
        hook.log_number('mine', value)
        train(hook, runner, [iteration])
    assert runner.rows[0][1]['mine'] == 5.0
    assert runner.rows[0][1]['theirs'] == 1.5


@pytest.mark.parametrize('ranks', [1, 2])
def test_a_resumed_run_goes_on_within_the_window(runner, monkeypatch, ranks):
    monkeypatch.setattr(logger.distributed, 'world_size', lambda: ranks)
    monkeypatch.setattr(logger.distributed, 'gather', lambda mine: [mine] * ranks)  # ranks that do the same
    before, after = make_hook(runner, 3), make_hook(runner, 3)
    for iteration, value in enumerate([1.0, 2.0]):
        before.log_number('mine', value)
        train(before, runner, [iteration])
    checkpoint = {}
    before.before_save_checkpoint(runner, checkpoint)
    after.after_load_checkpoint(runner, checkpoint)
    for hook in (before, after):
        hook.log_number('mine', 9.0)
        train(hook, runner, [2])
    assert [row['mine'] for _, row in runner.rows] == [4.0, 4.0]


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('mine', '1.0', r"log_number\('mine'\): '1.0'; a number or a tensor of one value is needed"),
    ('mine', True, 'True; a number or a tensor'), ('mine', None, 'None; a number or a tensor'),
    ('mine', torch.ones(3), r'a tensor of shape \(3,\); a number or a tensor'),
    ('', 1.0, "the name ''; a text"), (7, 1.0, 'the name 7; a text'), ('train/mine', 1.0, 'without the phase'),
    ('iteration', 1.0, 'the rows of train have a column of this name already'),
    ('learning_rate/mine', 1.0, 'have a column of this name already')])
def test_a_wrong_call_is_refused_in_a_sentence(runner, name, value, message):
    with pytest.raises(SettingError, match=message):
        make_hook(runner).log_number(name, value)
    with pytest.raises(SettingError, match="phase='test'; 'train' or 'val'"):
        make_hook(runner).log_number('mine', 1.0, phase='test')


def test_a_name_belongs_to_one_hook(runner):
    hook = make_hook(runner)
    hook.log_number('mine', 1.0)
    with pytest.raises(SettingError, match='was given twice in one iteration'):
        hook.log_number('mine', 2.0)


def test_a_name_of_another_column_is_refused(runner):
    hook = make_hook(runner)
    train(hook, runner, [0])
    with pytest.raises(SettingError, match=r"log_number\('loss'\): the rows of train have"):
        hook.log_number('loss', 1.0)
    hook.log_number('PSNR', 1.0, phase='val')
    with pytest.raises(SettingError, match=r"log_number\('PSNR'\): the rows of val have"):
        hook.after_val_epoch(runner, {'PSNR': 20.0})


def test_a_number_that_is_not_finite_is_logged_as_it_is(runner):
    hook = make_hook(runner, interval=1)
    hook.log_number('mine', math.nan)
    train(hook, runner, [0])
    assert math.isnan(runner.rows[0][1]['mine'])


@pytest.mark.parametrize(('errors', 'expected'), [
    ([0.4, 0.1, 16.0, 774.0], ['iteration 3: the pixel loss per value is 16, and was 0.1: worse than that']),
    ([0.01, 0.5], []), ([0.4, 1.5], []), ([30.0, 20.0], [])])  # a picture of another kind; twice not ten times; a start
def test_a_training_that_diverges_is_said_once(runner, errors, expected):
    hook = make_hook(runner, interval=1)
    for iteration, error in enumerate(errors):
        hook.after_train_iter(runner, iteration, outputs=SimpleNamespace(log={'per_pixel/pixel': torch.tensor(error)}))
    assert [text[:len(start)] for text, start in zip(runner.warnings, expected, strict=True)] == expected


def test_a_resumed_run_knows_the_lowest_error_of_its_log(runner, tmp_path):
    writer = RecordWriter(tmp_path)
    for iteration, error in enumerate([0.3, 0.1, 0.2], 1):
        writer.write('train', {'iteration': iteration, 'per_pixel/pixel': error})
    runner.work_dir, runner.iter = tmp_path, 3
    hook = LoggerHook(1)
    hook.before_run(runner)
    hook.before_train(runner)
    hook.after_train_iter(runner, 3, outputs=SimpleNamespace(log={'per_pixel/pixel': torch.tensor(1.1)}))
    assert 'is 1.1, and was 0.1' in runner.warnings[0]
