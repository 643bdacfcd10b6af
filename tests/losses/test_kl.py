import math

import pytest
import torch

from wfvae_toolkit.models.posterior import DiagonalGaussian, FixedVarianceGaussian
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError


def test_is_the_sum_per_image_in_nats(make_step):
    mean, logvar = torch.zeros(2, 2, 1, 1), torch.zeros(2, 2, 1, 1)
    mean[0, 0] = 3.0
    logvar[1, 1] = math.log(4.0)
    loss = LOSSES.build(dict(type='KLLoss'))
    expected = (0.5 * 9 + 0.5 * (4 - 1 - math.log(4))) / 2
    assert loss(make_step(latent_dist=DiagonalGaussian(mean, logvar))).item() == pytest.approx(expected, rel=1e-6)
    assert loss(make_step()).item() == 0
    assert loss.weight == 1e-6


def test_follows_the_kind_of_posterior(make_step):
    posterior = FixedVarianceGaussian(torch.zeros(2, 2, 1, 1), 0.1)
    loss = LOSSES.build(dict(type='KLLoss'))
    assert loss(make_step(latent_dist=posterior)).item() == pytest.approx(2 * posterior.least_kl)


@pytest.mark.parametrize('weight', [1e-3, 0.0])
def test_is_refused_where_the_posterior_has_none(make_model, weight):
    with pytest.raises(SettingError, match='^losses.kl: DeterministicPosterior has no KL .*: set this row to None'):
        make_model(autoencoder=dict(posterior=dict(type='DeterministicPosterior')),
                   losses=dict(kl=dict(type='KLLoss', weight=weight)))
