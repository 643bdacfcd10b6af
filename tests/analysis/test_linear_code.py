"""The linear code is the best one, and an autoencoder that starts from it begins there."""

import pytest
import torch

from wfvae_toolkit.analysis.linear_code import LinearCode, draw_pictures, score, start_from_linear_code
from wfvae_toolkit.models.autoencoders import WFVAE2Image
from wfvae_toolkit.utils.errors import SettingError

SMALL = dict(latent_channels=4, widths=(16, 24, 32), flow_width=16, latent_shortcuts=True)


@pytest.fixture(scope='module')
def pictures():
    return draw_pictures(dict(type='SyntheticImages', length=24, size=64))


def test_with_all_components_nothing_is_lost(pictures):
    code = LinearCode(pictures, 192, 8)
    torch.testing.assert_close(code.decode(code.encode(pictures)), pictures, atol=1e-3, rtol=0)


def test_codes_of_the_fitted_pictures_have_mean_0_and_variance_1(pictures):
    codes = LinearCode(pictures, 4, 8).encode(pictures)
    assert codes.shape == (24, 4, 8, 8)
    torch.testing.assert_close(codes.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.var((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


def test_no_other_linear_code_has_a_smaller_error(pictures):
    code = LinearCode(pictures, 4, 8)
    best = (code.decode(code.encode(pictures)) - pictures).square().mean()
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        step = 0.05 * torch.randn(code.directions.shape, generator=generator)
        other = LinearCode(pictures, 4, 8)
        other.directions = torch.linalg.qr((code.directions + step).T).Q.T
        other.std = torch.ones(4)
        assert (other.decode(other.encode(pictures)) - pictures).square().mean() > best


def test_an_autoencoder_begins_at_the_linear_code_or_better(pictures):
    torch.manual_seed(0)
    autoencoder = WFVAE2Image(**SMALL).eval()
    before = score(autoencoder, pictures)
    start_from_linear_code(autoencoder, pictures)
    code = LinearCode(pictures, 4, 8)
    linear = score(lambda images: code.decode(code.encode(images)), pictures)
    assert before < linear - 3
    assert score(autoencoder, pictures) > linear - 0.3


def test_its_latents_are_the_code(pictures):
    autoencoder = WFVAE2Image(**SMALL).eval()
    start_from_linear_code(autoencoder, pictures)
    with torch.no_grad():
        posterior = autoencoder.encode(pictures).latent_dist
    torch.testing.assert_close(posterior.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.mean.var((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)
    assert (posterior.logvar == -8).all()
    covered = LinearCode(pictures, 4, 8).encode(pictures).transpose(0, 1).flatten(1)
    latents = posterior.mean.transpose(0, 1).flatten(1)
    assert torch.corrcoef(torch.cat([latents, covered]))[:4, 4:].abs().amax(1).min() > 0.95


def test_every_weight_gets_a_gradient_within_two_updates(pictures):
    autoencoder = WFVAE2Image(**SMALL)
    start_from_linear_code(autoencoder, pictures)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (autoencoder(pictures[:2]) - pictures[:2]).abs().mean().backward()
        optimizer.step()
    still = [name for name, parameter in autoencoder.named_parameters() if not parameter.grad.any()]
    # A constant added to all keys changes no attention.
    assert all(name.endswith('key.bias') for name in still)


@pytest.mark.parametrize('change', [dict(latent_shortcuts=False), dict(energy_flow=False),
                                    dict(widths=(16, 32, 64), downsample=dict(type='ResidualDownsample')),
                                    dict(flow_width=8)])
def test_an_autoencoder_without_a_linear_path_is_refused(pictures, change):
    with pytest.raises(SettingError, match='latent_shortcuts=True'):
        start_from_linear_code(WFVAE2Image(**{**SMALL, **change}), pictures)
