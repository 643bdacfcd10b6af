import math
from functools import partial

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.helpers import noise
from wfvae_toolkit.models.autoencoders import LiteVAE, WFVAE2Image
from wfvae_toolkit.models.posterior import (
    DeterministicPosterior,
    DiagonalGaussian,
    FixedVarianceGaussian,
    FixedVariancePosterior,
    GaussianPosterior,
    PointMass,
    PosteriorKind,
    build_posterior,
)
from wfvae_toolkit.registry import POSTERIORS, registered_names
from wfvae_toolkit.utils.errors import SettingError

doubles = partial(noise, dtype=torch.float64)
KINDS = {'GaussianPosterior': {}, 'FixedVariancePosterior': dict(std=0.3), 'DeterministicPosterior': {}}


@pytest.fixture
def posterior():
    return DiagonalGaussian(*doubles(2, 2, 3, 4, 5))


# The Gaussian

def test_kl_equals_torch(posterior):
    expected = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.kl(), expected)


def test_sample_is_mean_plus_std_times_noise(posterior):
    noise = doubles(2, 3, 4, 5, seed=1)
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


# Fixed variance, and none

@pytest.mark.parametrize('std', [1e-6, 0.1, 1.0, 1e4])
def test_a_fixed_variance_has_its_std_and_the_kl_of_torch(std):
    posterior, noise = FixedVarianceGaussian(doubles(2, 3, 4, 5), std), doubles(2, 3, 4, 5, seed=1)
    torch.testing.assert_close(posterior.sample(noise=noise), posterior.mean + std * noise)
    expected = kl_divergence(Normal(posterior.mean, std), Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.kl(), expected)
    torch.testing.assert_close(posterior.var, torch.full_like(posterior.mean, std**2))


def test_the_least_kl_is_that_of_a_channel_that_carries_nothing():
    zeros = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    assert DiagonalGaussian(zeros, zeros).kl().item() == DiagonalGaussian.least_kl == 0
    fixed = FixedVarianceGaussian(zeros, 0.1)
    assert fixed.least_kl == pytest.approx(fixed.kl().item())
    assert fixed.least_kl == pytest.approx(0.5 * (0.01 - 1 - math.log(0.01)))


def test_a_single_value_has_no_variance_and_no_kl():
    posterior = PointMass(doubles(2, 3, 4, 5))
    drawn = posterior.sample(noise=doubles(2, 3, 4, 5, seed=1)), posterior.sample(torch.Generator()), posterior.mode()
    assert all(torch.equal(latents, posterior.mean) for latents in drawn)
    assert not posterior.var.any()
    assert not posterior.std.any()
    assert posterior.least_kl is None
    with pytest.raises(SettingError, match='PointMass has no KL divergence'):
        posterior.kl()


@pytest.mark.parametrize('std', [0, -0.1, 1e-7, float('nan'), True, '0.1'])
def test_a_std_that_cannot_work_is_refused(std):
    with pytest.raises(SettingError, match='a number from 1e-06 to 10000 is needed'):
        FixedVariancePosterior(std)


# Every kind

def test_every_registered_kind_is_tested():
    assert {name for name in registered_names(POSTERIORS)
            if POSTERIORS.module_dict[name].__module__.startswith('wfvae_toolkit')} == set(KINDS)


def test_without_a_setting_it_is_the_gaussian():
    assert type(build_posterior()) is GaussianPosterior
    assert type(WFVAE2Image(2, (4, 4), flow_width=4).posterior_kind) is GaussianPosterior
    assert type(build_posterior(dict(type='DeterministicPosterior'))) is DeterministicPosterior


@pytest.mark.parametrize('name', KINDS)
def test_a_kind_reads_what_it_asks_of_the_encoder(name):
    kind = build_posterior(dict(type=name, **KINDS[name]))
    posterior = kind(doubles(2, kind.encoder_channels(3), 4, 5).bfloat16())
    latents = posterior.mode(), posterior.sample(), posterior.mean, posterior.var, *posterior.tensors
    assert all((tensor.shape, tensor.dtype) == ((2, 3, 4, 5), torch.float32) for tensor in latents)
    assert type(posterior) is kind.distribution
    assert (posterior.least_kl is None) == (kind.distribution.least_kl is None)
    assert isinstance(kind, PosteriorKind)
    assert not list(kind.state_dict())


@pytest.mark.parametrize('name', KINDS)
def test_a_distribution_is_made_anew_of_its_tensors(name):
    kind = build_posterior(dict(type=name, **KINDS[name]))
    posterior = kind(doubles(2, kind.encoder_channels(3), 4, 5))
    leaves = [tensor.float().requires_grad_() for tensor in posterior.tensors]
    again, noise = posterior.replace(leaves), doubles(2, 3, 4, 5, seed=1)
    assert type(again) is type(posterior)
    torch.testing.assert_close(again.sample(noise=noise), posterior.sample(noise=noise).float())
    assert again.least_kl == posterior.least_kl
    again.sample(noise=noise).sum().backward()
    assert all(leaf.grad is not None for leaf in leaves)


@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize(('cls', 'settings'), [
    (WFVAE2Image, dict(latent_channels=3, widths=(6, 12), flow_width=4, latent_shortcuts=True)),
    (LiteVAE, dict(latent_channels=3, extractor_widths=(4,), aggregator_widths=(4,), decoder_widths=(4, 4, 8)))])
def test_autoencoders_take_every_kind(make_images, cls, settings, name):
    autoencoder = cls(**settings, posterior=dict(type=name, **KINDS[name])).eval()
    images = make_images()
    with torch.no_grad():
        posterior = autoencoder.encode(images).latent_dist
        assert posterior.mode().shape == (2, 3, 6, 8)
        assert torch.equal(autoencoder.decode(posterior.mode()).sample, autoencoder(images))


def test_shortcuts_need_a_width_that_the_encoders_channels_divide():
    settings = dict(latent_channels=4, widths=(8, 12), flow_width=4, latent_shortcuts=True)
    with pytest.raises(SettingError, match='the 8 channels of the encoder must divide its last width 12'):
        WFVAE2Image(**settings)
    WFVAE2Image(**settings, posterior=dict(type='DeterministicPosterior'))
