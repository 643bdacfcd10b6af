import math

import pytest
import torch

from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.registry import LOSSES


def test_is_the_sum_per_image_in_nats(make_step):
    mean, logvar = torch.zeros(2, 2, 1, 1), torch.zeros(2, 2, 1, 1)
    mean[0, 0] = 3.0
    logvar[1, 1] = math.log(4.0)
    loss = LOSSES.build(dict(type='KLLoss'))
    expected = (0.5 * 9 + 0.5 * (4 - 1 - math.log(4))) / 2
    assert loss(make_step(latent_dist=DiagonalGaussian(mean, logvar))).item() == pytest.approx(expected, rel=1e-6)
    assert loss(make_step()).item() == 0
    assert loss.weight == 1e-6
