import pytest
import torch

from wfvae_toolkit.evaluation import EvaluationBatch, LossValue
from wfvae_toolkit.losses import KLLoss, L1Loss, SpectralRegularizationLoss
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture
def batch(reconstructed, make_images):
    """An EvaluationBatch of two images of 32x16 px through a 4x model."""
    return reconstructed(make_images(2, 16, 32))


@torch.no_grad()
@pytest.mark.parametrize('kind', [L1Loss, KLLoss, SpectralRegularizationLoss])
def test_is_the_row_of_each_image_over_its_values(batch, make_step, kind):
    metric = LossValue(dict(type=kind.__name__))
    values = metric.measure(batch)
    assert values.shape == (2,)
    assert values.min() > 0
    parts = [metric.measure(EvaluationBatch(
        batch.target[i:i + 1], batch.reconstruction[i:i + 1], batch.latents[i:i + 1], batch.paths[i:i + 1],
        batch.latent_dist.replace([x[i:i + 1] for x in batch.latent_dist.tensors]), batch.autoencoder)).item()
        for i in range(2)]
    assert values.tolist() == pytest.approx(parts, rel=1e-5)
    if kind is not SpectralRegularizationLoss:  # it draws
        step = make_step(target=2 * batch.target - 1, reconstruction=2 * batch.reconstruction - 1,
                         latent_dist=batch.latent_dist)
        assert values.mean().item() == pytest.approx(kind()(step).item() / (3 * 16 * 32), rel=1e-6)


def test_pictures_alone_are_enough_for_a_row_of_pictures():
    pictures = torch.rand(2, 1, 3, 8, 8)
    value = LossValue(dict(type='L1Loss')).measure(EvaluationBatch(*pictures, paths=('a.png',)))
    assert value.item() == pytest.approx(2 * (pictures[0] - pictures[1]).abs().mean().item(), rel=1e-6)


def test_what_it_cannot_measure_is_refused(batch):
    with pytest.raises(SettingError, match='AdversarialLoss needs a discriminator, which no evaluation has'):
        LossValue(dict(type='AdversarialLoss'))
    odd = EvaluationBatch(batch.target[..., :30], batch.reconstruction[..., :30], batch.latents, batch.paths,
                          batch.latent_dist, batch.autoencoder)
    with pytest.raises(SettingError, match="30x16 px: SpectralRegularizationLoss needs images whose sides"):
        LossValue(dict(type='SpectralRegularizationLoss')).measure(odd)
