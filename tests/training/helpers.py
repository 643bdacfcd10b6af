"""What several tests of training need: loss rows, and comparison of gradients and weights."""

import torch
from torch import nn

from wfvae_toolkit.losses import Loss

PIXEL, KL = dict(type='L1Loss'), dict(type='KLLoss', weight=1e-3)
ADVERSARIAL = dict(type='AdversarialLoss', weight=0.5, balance=('pixel',))


class LearnedScale(Loss):
    """The pixel term under a learnable log-variance, as `logvar` of the earlier system."""

    def __init__(self, weight=1.0):
        super().__init__(weight)
        self.logvar = nn.Parameter(torch.tensor(0.3))

    def forward(self, step):
        error = (step.target - step.reconstruction).abs().flatten(1).sum(1).mean()
        return error / self.logvar.exp() + self.logvar * step.values_per_image


def gradients(network):
    """Name -> a copy of each parameter's gradient; parameters without one are left out."""
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def weights(network):
    """Name -> a copy of each parameter."""
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def assert_same(found, expected, tolerance):
    """Every tensor within ``tolerance`` of its own largest value."""
    assert found.keys() == expected.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    assert largest > 0
    for name, value in expected.items():
        scale = value.abs().max().item() + 1e-3 * largest  # some are zero in exact arithmetic
        assert (found[name] - value).abs().max().item() <= tolerance * scale, name
