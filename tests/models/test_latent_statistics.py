import pytest
import torch

from wfvae_toolkit.models.latent_statistics import LatentStatistics, active_channels
from wfvae_toolkit.utils.errors import SettingError


def test_a_channel_is_active_above_a_hundredth_of_a_nat_over_the_least():
    kl = torch.tensor([[0.0, 0.009, 0.011], [1.0, 1.009, 1.011]])
    assert active_channels(kl).tolist() == [[False, False, True], [True, True, True]]
    assert active_channels(kl, least_kl=1.0).tolist() == [[False] * 3, [False, False, True]]


def test_denormalize_is_the_inverse_of_normalize():
    statistics, latents = LatentStatistics((1.0, -2.0), (0.5, 4.0)), torch.randn(3, 2, 4, 5)
    torch.testing.assert_close(statistics.denormalize(statistics.normalize(latents)), latents)
    assert statistics.normalize(torch.tensor([1.5, 2.0])[:, None, None]).flatten().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(('mean', 'std'), [((), ()), ((0.0,), (1.0, 1.0)), ((0.0,), (0.0,)), ((float('nan'),), (1.0,))])
def test_statistics_that_cannot_be_are_refused(mean, std):
    with pytest.raises(SettingError, match='latent statistics'):
        LatentStatistics(mean, std)
