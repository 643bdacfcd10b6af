import math

import pytest
import torch
from torch import nn

from wfvae_toolkit.losses import AdversarialLoss, DiscriminatorStep, LeCamLoss, R1Penalty, R2Penalty
from wfvae_toolkit.models.discriminators import PatchDiscriminator
from wfvae_toolkit.utils.errors import SettingError


class Cubic(nn.Module):
    """Scores x^3 of the first channel: the gradient of an image's mean score is 3 x^2 / (H W)."""

    def forward(self, images):
        return images[:, :1] ** 3


def step_of(discriminator, real, fake):
    real, fake = real.requires_grad_(), fake.requires_grad_()
    return DiscriminatorStep(real, fake, discriminator(real), discriminator(fake), discriminator)


@pytest.mark.parametrize(('penalty', 'seen'), [(R1Penalty(), 0), (R2Penalty(), 1)])
def test_a_penalty_is_half_the_squared_gradient_summed_over_an_image(penalty, seen):
    images = [torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    expected = 0.5 * (3 * images[seen][:, 0] ** 2 / 20).square().sum((1, 2)).mean()
    assert penalty(step_of(Cubic(), *images)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_penalty_differentiates_once_more():
    """Against finite differences in float64, through spectral norm and every layer."""
    torch.manual_seed(0)
    network = PatchDiscriminator(num_layers=1, width=4).double().eval()
    images = torch.rand(2, 2, 3, 16, 16, dtype=torch.float64)
    weight = network.convs[0].weight_orig
    value = R1Penalty()(step_of(network, *images.clone()))
    slope = torch.autograd.grad(value, weight)[0][1, 2, 3, 0].item()
    values = []
    for change in (1e-5, -2e-5):
        with torch.no_grad():
            weight[1, 2, 3, 0] += change
        values.append(R1Penalty()(step_of(network, *images.clone())).item())
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_several_scales_count_alike():
    single, double = Cubic(), lambda images: [images[:, :1] ** 3, images[:, :1, ::2] ** 3]
    images = torch.rand(2, 2, 3, 4, 4)
    gradient = 3 * images[0, :, :1] ** 2 / 16
    halves = gradient.clone()
    halves[:, :, ::2] *= 3  # a position of the second map counts twice, for half of them are there
    assert R1Penalty()(step_of(single, *images.clone())).item() == pytest.approx(
        0.5 * gradient.square().sum((1, 2, 3)).mean().item(), rel=1e-5)
    assert R1Penalty()(step_of(double, *images.clone())).item() == pytest.approx(
        0.5 * (halves / 2).square().sum((1, 2, 3)).mean().item(), rel=1e-5)


@pytest.mark.parametrize('row', [R1Penalty(), R2Penalty()])
def test_batch_norm_has_no_score_of_an_image_by_itself(row):
    with pytest.raises(SettingError, match=r'with batch norm.*instance'):
        row.check(PatchDiscriminator(1, 4, norm='batch'))
    row.check(PatchDiscriminator(1, 4, norm='instance'))


def test_lecam_pulls_scores_to_the_averages_of_the_other_kind(judged):
    row, averages = LeCamLoss(decay=0.9), [0.0, 0.0]
    scores = torch.randn(5, 2, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert row(judged(*scores[0].requires_grad_())).item() == 0.0  # no average yet
    for number, (real, fake) in enumerate(scores, 1):
        row.after_update({'scores/real': real.mean(), 'scores/fake': fake.mean()})
        averages = [0.9 * old + 0.1 * new.mean().item() for old, new in zip(averages, (real, fake), strict=True)]
        real_average, fake_average = (value / (1 - 0.9**number) for value in averages)
        expected = (real - fake_average).square().mean() + (fake - real_average).square().mean()
        assert row(judged(real, fake)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_one_sided_lecam_counts_what_lies_beyond(judged):
    row = LeCamLoss(one_sided=True)
    row.after_update({'scores/real': torch.tensor(2.0), 'scores/fake': torch.tensor(-1.0)})
    real, fake = torch.tensor([1.0, -3.0]).view(2, 1, 1, 1), torch.tensor([5.0, 0.0]).view(2, 1, 1, 1)
    assert row(judged(real, fake)).item() == pytest.approx((2**2 + 0) / 2 + (0 + 2**2) / 2)


def test_lecam_s_averages_are_part_of_its_state():
    row, other = LeCamLoss(), LeCamLoss()
    row.after_update({'scores/real': torch.tensor(2.0), 'scores/fake': torch.tensor(-1.0)})
    other.load_state_dict(row.state_dict())
    assert torch.equal(other.averages, row.averages)


@pytest.mark.parametrize('decay', [1.0, -0.1])
def test_a_decay_that_forgets_nothing_is_refused(decay):
    with pytest.raises(SettingError, match=r'decay=.*below 1'):
        LeCamLoss(decay=decay)


def test_relativistic_pairs_an_image_with_its_reconstruction(judged, make_step):
    row = AdversarialLoss(objective='relativistic')
    real, fake = torch.tensor([3.0, 0.0]).view(2, 1, 1, 1), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    softplus = [math.log1p(math.exp(x)) for x in (1 - 3, 2 - 0)]
    assert row.discriminator_loss(judged(real, fake)).item() == pytest.approx(sum(softplus) / 2)
    scores = iter([fake, real])
    value = row(make_step(discriminator=lambda images: next(scores)))
    assert value.item() == pytest.approx(sum(math.log1p(math.exp(x)) for x in (3 - 1, 0 - 2)) / 2)
