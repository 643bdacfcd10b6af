import pytest
import torch
from torch.distributions import Normal, kl_divergence

from wfvae_toolkit.models.posterior import DiagonalGaussian


@pytest.fixture
def posterior():
    return DiagonalGaussian(*torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double())


def test_kl_equals_torch(posterior):
    expected = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.kl(), expected)


def test_sample_is_mean_plus_std_times_noise(posterior):
    noise = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = posterior.mean + torch.exp(posterior.logvar / 2) * noise
    torch.testing.assert_close(posterior.sample(noise=noise), expected)
    torch.testing.assert_close(posterior.sample(torch.Generator().manual_seed(1)), expected)
    assert torch.equal(posterior.mode(), posterior.mean)


def test_sample_has_the_moments():
    mean, logvar = torch.full((1, 1, 200, 500), 3.0), torch.full((1, 1, 200, 500), 0.5).log()
    sample = DiagonalGaussian(mean, logvar).sample(torch.Generator().manual_seed(0))
    assert sample.mean().item() == pytest.approx(3.0, abs=0.02)
    assert sample.var().item() == pytest.approx(0.5, rel=0.02)


def test_logvar_is_clamped():
    posterior = DiagonalGaussian(torch.zeros(4), torch.tensor([-1e4, -30.0, 20.0, 1e4]))
    assert posterior.logvar.tolist() == [-30, -30, 20, 20]
    assert posterior.kl().isfinite().all()
    assert posterior.sample(torch.Generator().manual_seed(0)).isfinite().all()


def test_moments_are_mean_then_logvar_in_float32():
    moments = torch.randn(2, 6, 4, 5).bfloat16()
    posterior = DiagonalGaussian.from_moments(moments)
    assert posterior.mean.dtype == posterior.logvar.dtype == torch.float32
    assert torch.equal(posterior.mean, moments[:, :3].float())
    assert torch.equal(posterior.logvar, moments[:, 3:].float())
    assert DiagonalGaussian.from_moments(moments.double()).mean.dtype == torch.float64


def test_gradient_reaches_both_moments():
    mean, logvar = torch.zeros(5, requires_grad=True), torch.zeros(5, requires_grad=True)
    noise = torch.arange(5.0)
    DiagonalGaussian(mean, logvar).sample(noise=noise).sum().backward()
    assert mean.grad.tolist() == [1] * 5
    torch.testing.assert_close(logvar.grad, noise / 2)
