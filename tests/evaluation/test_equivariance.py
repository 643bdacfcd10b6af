import pytest
import torch
import torch.nn.functional as F

from wfvae_toolkit.evaluation import EvaluationBatch, RotationEquivariance, ScaleEquivariance
from wfvae_toolkit.models.autoencoders import DecoderOutput, EncoderOutput
from wfvae_toolkit.models.posterior import DiagonalGaussian


class Toy(torch.nn.Module):
    """Invertible mixing of colours at every pixel: commutes with every linear resampling."""

    def __init__(self):
        super().__init__()
        self.mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.5], [0.5, 0.0, 1.0]])

    def encode(self, x):
        mean = torch.einsum('ij,bjhw->bihw', self.mix, x)
        return EncoderOutput(DiagonalGaussian(mean, torch.zeros_like(mean)))

    def decode(self, z):
        return DecoderOutput(torch.einsum('ij,bjhw->bihw', torch.linalg.inv(self.mix), z))


class Ramped(Toy):
    """Adds a ramp from left to right to the latents, which no rotation keeps."""

    def encode(self, x):
        mean = super().encode(x).latent_dist.mean + 0.3 * torch.linspace(-1, 1, x.shape[-1])
        return EncoderOutput(DiagonalGaussian(mean, torch.zeros_like(mean)))

    def decode(self, z):
        return super().decode(z - 0.3 * torch.linspace(-1, 1, z.shape[-1]))


class Averaging(Toy):
    """2x: block means, and back by repetition. Commutes with turns, loses detail."""

    def encode(self, x):
        return super().encode(F.avg_pool2d(x, 2))

    def decode(self, z):
        return DecoderOutput(F.interpolate(super().decode(z).sample, scale_factor=2.0))


def batch_of(autoencoder, images):
    posterior = autoencoder.encode(images).latent_dist
    reconstruction = autoencoder.decode(posterior.mode()).sample
    return EvaluationBatch((images + 1) / 2, (reconstruction + 1) / 2, posterior.mode(), (), posterior, autoencoder)


METRICS = [RotationEquivariance(turns) for turns in (1, 2, 3)] + [ScaleEquivariance(0.5), ScaleEquivariance(0.25)]


@pytest.mark.parametrize('metric', METRICS, ids=lambda metric: metric.description.split(' T:')[0])
def test_an_equivariant_autoencoder_has_no_error(metric, make_images):
    values = metric.measure(batch_of(Toy(), make_images(2, 16, 24)))
    assert set(values) == {'image', 'latent'}
    for value in values.values():
        assert value.shape == (2,)
        assert value.max() < 1e-6


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_the_image_error_of_a_lossy_but_equivariant_one_is_its_reconstructions(turns, make_images):
    batch = batch_of(Averaging(), make_images(2, 16, 24))
    values = RotationEquivariance(turns).measure(batch)
    rms = (batch.reconstruction - batch.target).double().square().mean((1, 2, 3)).sqrt()
    assert values['latent'].max() < 1e-6
    torch.testing.assert_close(values['image'], rms, atol=1e-6, rtol=1e-5)
    assert rms.min() > 1e-3


def test_errors_of_a_ramp_are_its_own(make_images):
    """A half turn mirrors the ramp: encode(T(x)) - T(z) is twice the ramp, and the decoder passes it on."""
    images = 0.1 * make_images(1, 16, 24)
    autoencoder = Ramped()
    values = RotationEquivariance(2).measure(batch_of(autoencoder, images))
    double_ramp = 0.6 * torch.linspace(-1, 1, 24).double()
    spread = autoencoder.encode(torch.rot90(images, 2, (-2, -1))).latent_dist.mean.double().std(
        (2, 3), correction=0).square().mean().sqrt()
    expected = double_ramp.square().mean().sqrt()
    assert values['latent'].item() == pytest.approx((expected / spread).item(), rel=1e-5)
    in_colours = torch.linalg.inv(autoencoder.mix).sum(1)[:, None].double() * double_ramp
    assert values['image'].item() == pytest.approx((in_colours / 2).square().mean().sqrt().item(), rel=1e-5)


def test_settings_are_checked(make_images):
    with pytest.raises(ValueError, match='quarter_turns=4; use 1, 2 or 3'):
        RotationEquivariance(4)
    with pytest.raises(ValueError, match='factor=0; a number above 0'):
        ScaleEquivariance(0)
    with pytest.raises(ValueError, match='0.3 times 24x16 positions are not whole numbers'):
        ScaleEquivariance(0.3).measure(batch_of(Toy(), make_images(1, 16, 24)))
