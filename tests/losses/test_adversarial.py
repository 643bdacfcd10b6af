import pytest
import torch

from wfvae_toolkit.losses import AdversarialLoss, balanced_weight


def test_is_minus_the_mean_score_of_the_reconstruction(make_step):
    reconstruction = torch.arange(96.0).reshape(2, 3, 4, 4)
    step = make_step(reconstruction=reconstruction, discriminator=lambda images: 2 * images[:, :1])
    expected = -2 * (torch.arange(16.0).mean() + torch.arange(48.0, 64.0).mean()) / 2
    assert AdversarialLoss()(step).item() == expected.item()


def test_hinge(judged):
    real = torch.tensor([2.0, 0.5, -1.0]).reshape(3, 1, 1, 1)
    fake = torch.tensor([-3.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    expected = 0.5 * ((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    assert AdversarialLoss().discriminator_loss(judged(real, fake)).item() == pytest.approx(expected)


def test_hinge_has_no_slope_beyond_its_margin(judged):
    real, fake = (torch.tensor([value]).reshape(1, 1, 1, 1).requires_grad_() for value in (1.5, 0.5))
    AdversarialLoss().discriminator_loss(judged(real, fake)).backward()
    assert (real.grad.item(), fake.grad.item()) == (0.0, 0.5)


@pytest.mark.parametrize(('balance', 'adversarial', 'expected'), [
    ([3.0, 4.0], [0.0, 2.0], 2.5),
    ([3.0, 4.0], [0.0, 0.0], 1e4),  # 5 / 1e-6, clamped
    ([0.0, 0.0], [0.0, 2.0], 0.0),
    ([0.0, 0.0], [0.0, 0.0], 0.0),
    ([3e-6, 4e-6], [0.0, 1e-6], 2.5),  # the guard counts: 5e-6 / 2e-6
])
def test_balanced_weight(balance, adversarial, expected):
    weight = balanced_weight(torch.tensor(balance), torch.tensor(adversarial), max_ratio=1e4)
    assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_balanced_weight_of_half_precision_does_not_overflow():
    gradient = torch.full((1000,), 6e4, dtype=torch.float16)
    assert balanced_weight(gradient, gradient, max_ratio=10).item() == pytest.approx(1)


def test_defaults():
    loss = AdversarialLoss(balance=['pixel'])
    assert (loss.weight, loss.max_ratio, loss.balance) == (0.5, 1e6, ('pixel',))
    assert AdversarialLoss().balance == ('pixel', 'perceptual')
