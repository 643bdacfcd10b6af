"""The rehearsal before the first iteration finds a user's losses and metrics that return the wrong thing."""

import numpy as np
import pytest
import torch
from torch import nn

from wfvae_toolkit.datasets import Sample
from wfvae_toolkit.evaluation import Metric, ReconstructionEvaluator
from wfvae_toolkit.losses import AdversarialLoss, Loss, as_constant
from wfvae_toolkit.training import model as training_model
from wfvae_toolkit.training.rehearsal import rehearse
from wfvae_toolkit.utils.errors import SettingError

PIXEL = dict(type='L1Loss')


class Crops:
    """A dataset of crops of one size."""

    def __init__(self, size=16):
        self.crop_size = lambda: size


class Own(Loss):
    """A loss that returns ``make(error)``, with the step's error."""

    def __init__(self, make, weight=1.0):
        super().__init__(weight)
        self.make = make

    def forward(self, step):
        return self.make(step.reconstruction - step.target)


class OwnMetric(Metric):
    higher_is_better = False
    description = 'my own'

    def __init__(self, make):
        super().__init__()
        self.make = make

    def measure(self, batch):
        return self.make((batch.reconstruction - batch.target).abs().mean((1, 2, 3)))


@pytest.mark.parametrize(('make', 'found'), [
    (lambda error: error.abs().mean((1, 2, 3)), r'torch\.float32 of shape \(1,\)'),
    (lambda error: error.detach().abs().mean(), 'a constant, which trains nothing'),
    (lambda error: torch.tensor(0.0), 'a constant'),
    (lambda error: error.sign().sum().long(), r'torch\.int64 of shape \(\)'),
    (lambda error: error.abs().mean().item(), 'a float'),
    (lambda error: {'loss': error.abs().mean()}, 'a dict'),
    (lambda error: (error.abs().mean(), {}), 'a tuple'),
    (lambda error: None, 'a NoneType'),
    (lambda error: error.detach().numpy().mean(), 'a float32')])
def test_a_loss_that_returns_the_wrong_thing_is_named(make_model, make, found):
    model = make_model(losses=dict(pixel=PIXEL, mine=dict(type=Own, make=make)))
    with pytest.raises(SettingError, match=rf'losses\.mine: Own returned {found}.*a scalar with a gradient is needed'):
        rehearse(model, Crops())


def test_a_loss_that_is_off_for_now_may_be_zero(make_model):
    rehearse(make_model(losses=dict(pixel=PIXEL, mine=dict(type=Own, make=lambda error: error.sum() * 0))), Crops())


def test_an_own_loss_of_the_discriminator_is_named(make_model):
    class Unreduced(AdversarialLoss):
        def discriminator_loss(self, real_scores, fake_scores):
            return fake_scores - real_scores

    model = make_model(losses=dict(pixel=PIXEL, mine=dict(type=Unreduced, balance=('pixel',))))
    with pytest.raises(SettingError, match=r'losses\.mine: discriminator_loss returned .* of shape \(1, 1,'):
        rehearse(model, Crops())


class MaskedCrops(Crops):
    """Every picture has a mask."""

    has_extras = True

    def __getitem__(self, index):
        return Sample(torch.zeros(3, 16, 16, dtype=torch.uint8), 'a.png', index, index, 0,
                      extras=dict(mask=torch.zeros(1, 16, 16, dtype=torch.uint8)))


def test_a_loss_of_extra_fields_is_rehearsed_with_those_of_the_first_sample(make_model):
    model = make_model(losses=dict(pixel=PIXEL, masked=dict(type='MaskedL1Loss')))
    rehearse(model, MaskedCrops())
    with pytest.raises(SettingError, match="no extra field 'mask'"):
        rehearse(model, Crops())


def test_a_module_that_is_no_loss_is_named(make_model):
    with pytest.raises(SettingError, match=r'losses\.mine: L1Loss is no loss row: derive it from .*losses\.Loss'):
        make_model(losses=dict(pixel=PIXEL, mine=dict(type=nn.L1Loss)))


def test_a_frozen_network_in_a_loss_is_named_with_the_way_out_of_the_checkpoint(make_model, monkeypatch):
    said = []
    monkeypatch.setattr(training_model, 'print_log', lambda text, *options: said.append(text))

    class Features(Loss):
        def __init__(self, wrap, weight=1.0):
            super().__init__(weight)
            self.network = wrap(nn.Conv2d(3, 4, 1).requires_grad_(False))

        def forward(self, step):
            return (self.network(step.reconstruction) - self.network(step.target)).abs().mean()

    model = make_model(losses=dict(pixel=PIXEL, mine=dict(type=Features, wrap=lambda network: network)))
    assert any(name.startswith('losses.') for name in model.state_dict())
    assert said.pop().startswith('losses.mine: 16 frozen weights of Features go into every checkpoint; self.network = ')
    model = make_model(losses=dict(pixel=PIXEL, mine=dict(type=Features, wrap=as_constant)))
    rehearse(model, Crops())
    assert not any(name.startswith('losses.') for name in model.state_dict())
    assert not said


# Metrics

@pytest.mark.parametrize(('make', 'found'), [
    (lambda values: values.mean(), r'torch\.float32 of shape \(\)'),
    (lambda values: values[:, None], r'torch\.float32 of shape \(1, 1\)'),
    (lambda values: values.tolist(), 'a list'), (lambda values: 0.5, 'a float'), (lambda values: None, 'a NoneType'),
    (lambda values: {}, 'a dict'), (lambda values: {'a': values, 'b': 1.0}, 'a float'),
    (lambda values: np.zeros(1), 'a ndarray')])
def test_a_metric_that_returns_the_wrong_thing_is_named(make_model, make, found):
    evaluator = ReconstructionEvaluator({'mine': dict(type=OwnMetric, make=make)})
    with pytest.raises(SettingError, match=rf'metrics: metric mine: measure returned {found} for 1 image'):
        rehearse(make_model(), Crops(), Crops(), evaluator)


@pytest.mark.parametrize(('lacking', 'message'), [
    (nn.Identity, 'Identity has no measure and no higher_is_better and no description: derive it from'),
    (type('Undirected', (Metric,), {'description': '', 'measure': None}), 'Undirected has no higher_is_better: ')])
def test_a_metric_without_what_a_table_needs_is_named(lacking, message):
    with pytest.raises(SettingError, match=rf'metrics\.mine: {message}'):
        ReconstructionEvaluator({'mine': dict(type=lacking)})


def test_metrics_of_the_model_are_rehearsed_on_it(make_model):
    model = make_model()
    evaluator = ReconstructionEvaluator({'LatentKL': dict(type='LatentKL'), 'PSNR': dict(type='PSNR')})
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    rehearse(model, Crops(), Crops(32), evaluator)
    assert evaluator.summarize().images == 0
    assert model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
