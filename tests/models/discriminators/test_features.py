import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import TinyMaps, noise
from wfvae_toolkit.losses import DiscriminatorStep, R1Penalty
from wfvae_toolkit.models.discriminators import FeatureDiscriminator
from wfvae_toolkit.models.discriminators.features import _layers, batch_norms, synchronise_batch_norms
from wfvae_toolkit.models.perceptual import STLPIPS

TINY = 'tests.helpers.TinyMaps'


def test_it_is_a_head_on_each_chosen_map_of_the_frozen_network():
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator('stlpips-alex', layers=(1, -1), width=6, norm='none')
    images = noise(2, 3, 40, 52)
    maps = list(STLPIPS('alex')._features(images))
    for scores, head, features in zip(discriminator(images), discriminator.heads, (maps[1], maps[4]), strict=True):
        first = F.leaky_relu(F.conv2d(features, head.project.weight, head.project.bias), 0.2)
        mixed = F.leaky_relu(F.conv2d(first, head.mix.weight, head.mix.bias, padding=1), 0.2)
        expected = F.conv2d((first + mixed) / math.sqrt(2), head.score.weight, head.score.bias)
        assert scores.shape == (2, 1, *features.shape[2:])
        torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize(('count', 'layers'), [(12, (2, 5, 8, 11)), (5, (0, 1, 2, 4)), (2, (0, 1))])
def test_it_takes_four_maps_evenly_spaced(count, layers):
    assert _layers(None, count, '') == layers


def test_only_the_heads_train_and_are_stored_and_images_get_gradients():
    discriminator = FeatureDiscriminator('stlpips-alex', layers=(0, 2), width=4).train()
    frozen = [value.clone() for value in discriminator.features_network.buffers()]
    images = noise(2, 3, 32, 32).requires_grad_()
    sum(scores.sum() for scores in discriminator(images)).backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    names = [*dict(discriminator.named_parameters()), *discriminator.state_dict()]
    assert all(name.startswith('heads.') for name in names)
    assert all(map(torch.equal, frozen, discriminator.features_network.buffers()))
    assert not discriminator.features_network.network.training


def test_a_penalty_differentiates_through_the_frozen_network_once_more():
    """Against finite differences in float64."""
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator('stlpips-alex', layers=(0, 2), width=3, norm='none').double()
    images = noise(1, 3, 24, 24, dtype=torch.float64)

    def penalty():
        real = images.clone().requires_grad_()
        scores = discriminator(real)
        return R1Penalty()(DiscriminatorStep(real, real, scores, scores, discriminator))

    weight = discriminator.heads[1].project.weight
    slopes, = torch.autograd.grad(penalty(), weight)
    place = tuple((slopes.abs() == slopes.abs().max()).nonzero()[0].tolist())
    values = []
    for change in (1e-6, -2e-6):
        with torch.no_grad():
            weight[place] += change
        values.append(penalty().item())
    slope = slopes[place].item()
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3)
    assert slope != 0


def test_scores_of_an_image_do_not_depend_on_the_others_and_are_float32_under_autocast():
    discriminator = FeatureDiscriminator('stlpips-alex', width=4).eval()
    images = noise(2, 3, 32, 32)
    both, alone = discriminator(images), discriminator(images[:1])
    assert all(torch.allclose(scores[:1], first, atol=1e-6) for scores, first in zip(both, alone, strict=True))
    with torch.autocast('cpu', torch.bfloat16):
        low = discriminator(images)
    assert {scores.dtype for scores in low} == {torch.float32}
    assert all(torch.allclose(scores, exact, atol=0.05 * exact.abs().max().item() + 0.02)
               for scores, exact in zip(low, both, strict=True))


@pytest.mark.parametrize('settings', [dict(precision='bf16'), dict(turns='joint'),
                                      dict(discriminator_augmentation=dict(type='DiffAugment'))])
def test_it_trains_with_every_row_of_the_discriminator(train_with_every_row, settings):
    train_with_every_row(dict(type='FeatureDiscriminator', features=TINY, width=4), **settings)


# batch norm

def test_a_frozen_batch_norm_is_no_obstacle_to_a_penalty_and_one_of_the_heads_is(make_model):
    losses = dict(pixel=dict(type='L1Loss'), adversarial=dict(type='AdversarialLoss', balance=('pixel',)),
                  r1=dict(type='R1Penalty'))
    row = dict(type='FeatureDiscriminator', features=TINY, width=4)
    make_model(discriminator=row, losses=losses)
    with pytest.raises(ValueError, match='R1Penalty needs a score of each image by itself'):
        make_model(discriminator=dict(row, norm='batch'), losses=losses)


def test_over_several_ranks_only_the_heads_batch_norms_are_synchronised():
    discriminator = FeatureDiscriminator(TINY, width=4, norm='batch')
    assert len(batch_norms(discriminator)) == 4
    synchronise_batch_norms(discriminator)
    kinds = [type(module) for module in discriminator.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert kinds == [nn.BatchNorm2d] + [nn.SyncBatchNorm] * 4
    plain = nn.Sequential(nn.BatchNorm2d(3, affine=False), TinyMaps())
    assert len(batch_norms(plain)) == 2


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(layers=(5,)), r'layers=\(5,\): stlpips-alex has maps 0 to 4'), (dict(layers=()), r'layers=\(\)'),
    (dict(width=0), 'width=0'), (dict(norm='layer'), "norm='layer': a whole number from 1, and one of spectral")])
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        FeatureDiscriminator('stlpips-alex', **settings)
