from types import SimpleNamespace

import pytest
import torch
from torch import nn

from wfvae_toolkit.checkpoints import CheckpointError
from wfvae_toolkit.hooks import EMAHook
from wfvae_toolkit.training.train_step import Update


class Counter(nn.Linear):
    """A layer with an integer buffer, a float buffer, and a buffer outside the state dict."""

    def __init__(self):
        super().__init__(1, 1, bias=False)
        self.register_buffer('steps', torch.tensor(0))
        self.register_buffer('scale', torch.tensor(1.0))
        self.register_buffer('scratch', torch.tensor(1.0), persistent=False)


@pytest.fixture
def runner():
    model = nn.Module()
    model.autoencoder, model.discriminator = Counter(), nn.Linear(1, 1)
    return SimpleNamespace(model=model.train(), averaged_autoencoder=None)


def start(runner, decay=0.9):
    hook = EMAHook(decay)
    nn.init.constant_(runner.model.autoencoder.weight, 1.0)
    hook.before_run(runner)
    return hook


def update(hook, runner, iteration, value, turn='autoencoder'):
    nn.init.constant_(runner.model.autoencoder.weight, value)
    runner.model.autoencoder.steps.fill_(iteration)
    hook.after_train_iter(runner, iteration, outputs=Update((turn,), {}))
    return runner.averaged_autoencoder.weight.item()


def test_recursion_is_exact(runner):
    hook = start(runner)
    expected = 1.0
    for iteration in range(200):
        value = float(iteration % 7)
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        expected = decay * expected + (1 - decay) * value
        assert update(hook, runner, iteration, value) == pytest.approx(expected, rel=1e-5)
    assert runner.averaged_autoencoder.steps.item() == 199


def test_buffers_follow_even_when_they_are_replaced(runner):
    hook = start(runner)
    runner.model.autoencoder.scale = torch.tensor(3.0)
    runner.model.autoencoder.scratch = torch.tensor(3.0)
    update(hook, runner, 6, 1.0)
    assert runner.averaged_autoencoder.scale.item() == pytest.approx(7 / 16 * 1 + 9 / 16 * 3)
    assert runner.averaged_autoencoder.scratch == 1.0


def test_an_update_makes_no_state_dict_and_no_graph(runner, monkeypatch):
    hook = start(runner)
    monkeypatch.setattr(nn.Module, 'state_dict', None)
    assert update(hook, runner, 6, 3.0) != 1.0
    assert not runner.averaged_autoencoder.weight.requires_grad
    assert runner.averaged_autoencoder.weight.grad_fn is None


def test_the_first_update_forgets_most_of_the_random_start(runner):
    assert update(start(runner, decay=0.999), runner, 0, 11.0) == pytest.approx(0.1 * 1 + 0.9 * 11)


def test_only_updates_of_the_autoencoder_count(runner):
    hook = start(runner)
    assert update(hook, runner, 5, 3.0, turn='discriminator') == 1.0
    assert update(hook, runner, 6, 3.0) == pytest.approx(7 / 16 * 1 + 9 / 16 * 3)


def test_the_average_is_the_autoencoder_alone_and_frozen(runner):
    hook = start(runner)
    average = runner.averaged_autoencoder
    assert average.state_dict().keys() == runner.model.autoencoder.state_dict().keys()
    assert average is not runner.model.autoencoder
    assert not average.training
    assert not average.weight.requires_grad
    update(hook, runner, 0, 5.0)
    assert runner.model.autoencoder.weight.item() == 5.0
    assert runner.model.autoencoder.training


def test_state_round_trip(runner):
    hook = start(runner)
    expected = update(hook, runner, 0, 5.0)
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    other = start(runner)
    assert runner.averaged_autoencoder.weight.item() == 1.0
    other.after_load_checkpoint(runner, checkpoint)
    assert runner.averaged_autoencoder.weight.item() == expected
    assert update(other, runner, 1, 2.0) == pytest.approx(2 / 11 * expected + 9 / 11 * 2)


def test_a_checkpoint_without_averages_is_refused(runner):
    with pytest.raises(CheckpointError, match='set default_hooks.ema=None'):
        start(runner).after_load_checkpoint(runner, {})
    with pytest.raises(RuntimeError, match='weight'):
        start(runner).after_load_checkpoint(runner, {'ema_state_dict': {'steps': torch.tensor(1)}})


@pytest.mark.parametrize('decay', [0.0, 1.0, -0.5])
def test_decay_is_checked(decay):
    with pytest.raises(ValueError, match='a number between 0 and 1'):
        EMAHook(decay)
