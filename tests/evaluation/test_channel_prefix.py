import pytest
import torch

from wfvae_toolkit.evaluation import psnr
from wfvae_toolkit.evaluation.channel_prefix import PSNRByChannels
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture
def batch(reconstructed, make_images):
    """An EvaluationBatch of a model with three latent channels."""
    return reconstructed(make_images())


@torch.no_grad()
def test_all_channels_give_the_psnr_of_the_reconstruction(batch):
    torch.testing.assert_close(PSNRByChannels((3,)).measure(batch)['3'], psnr(batch.reconstruction, batch.target))


@torch.no_grad()
def test_channels_beyond_the_prefix_are_zero(batch):
    latents = batch.latents.clone()
    latents[:, 1:] = 0
    made = (batch.autoencoder.decode(latents).sample.clamp(-1, 1) + 1) / 2
    measured = PSNRByChannels((1, 2)).measure(batch)
    assert list(measured) == ['1', '2']
    torch.testing.assert_close(measured['1'], psnr(made, batch.target))


@pytest.mark.parametrize('channels', [(), (0,), (2, 1.5)])
def test_numbers_of_channels_are_checked(channels):
    with pytest.raises(SettingError, match='numbers of channels are needed, such as'):
        PSNRByChannels(channels)


def test_more_channels_than_the_latents_have_are_refused(batch):
    with pytest.raises(SettingError, match=r'channels=\(2, 4\) of 3 latent channels'):
        PSNRByChannels((2, 4)).measure(batch)
