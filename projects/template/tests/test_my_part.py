import pytest
import torch
from my_part import MyLoss

from wfvae_toolkit.losses import Step
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.config import load_config


def step(target, reconstruction):
    return Step(target, reconstruction, latent_dist=None, latents=None)


def test_it_counts_every_edge_of_the_error_once():
    target = torch.zeros(2, 3, 4, 4)
    reconstruction = target.clone()
    reconstruction[0, 0, 1, 1] = 0.5  # one pixel away from the borders has four edges
    assert MyLoss()(step(target, reconstruction)).item() == pytest.approx(4 * 0.5 / 2)


def test_a_shift_of_all_values_costs_nothing():
    target = torch.rand(1, 3, 8, 8)
    assert MyLoss()(step(target, target + 0.25)).item() == pytest.approx(0.0, abs=1e-4)


def test_the_config_adds_one_row():
    row = load_config('my_part::demo.py').model.losses.mine
    assert type(LOSSES.build(row)) is MyLoss
