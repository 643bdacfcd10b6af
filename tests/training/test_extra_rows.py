"""Rows beside the common objective, in a training model: precision, ``normalize`` and ranks."""

import pytest
import torch

from tests.training.helpers import PIXEL, assert_same, gradients

ROWS = {'bands': dict(type='WaveletBandLoss'),
        'frequency': dict(type='FocalFrequencyLoss'),
        'high_pass': dict(type='HighPassLoss'),
        'ssim': dict(type='SSIMLoss', weight=0.2),
        'features': dict(type='FeatureLoss', features='stlpips-alex', weight=0.2),
        'spectral': dict(type='SpectralRegularizationLoss', weight=0.5)}


@pytest.fixture(params=ROWS)
def losses(request):
    """``losses`` of a config: pixels and the row."""
    return {'pixel': PIXEL, request.param: ROWS[request.param]}


def trained(model, images, seeds):
    """(log, gradients of the autoencoder) of one turn."""
    model.zero_grad()
    loss, log = model.autoencoder_turn(images, sample_posterior=False, sample_seeds=seeds)
    loss.backward()
    return log, gradients(model.autoencoder)


def test_bfloat16_gives_finite_gradients_and_a_value_near_that_of_float32(make_model, make_images, losses):
    images = make_images(2, 32, 32)
    settings = dict(losses=losses, discriminator=None)
    exact, rounded = (trained(make_model(**settings, precision=precision), images, (1, 2))
                      for precision in ('fp32', 'bf16'))
    assert all(torch.isfinite(gradient).all() for gradient in rounded[1].values())
    name = list(losses)[-1]
    assert rounded[0][name].dtype == torch.float32
    assert rounded[0][name].item() == pytest.approx(exact[0][name].item(), rel=0.02)


def test_normalize_divides_the_row_by_the_values_of_an_image(make_model, make_images, losses):
    images = make_images(2, 32, 32)
    plain, normalized = (trained(make_model(losses=losses, discriminator=None, normalize=normalize), images, (1, 2))
                         for normalize in (False, True))
    total = sum(plain[0][name] * row.get('weight', 1.0) for name, row in losses.items())
    assert normalized[0]['loss'].item() == pytest.approx(total.item() / (3 * 32 * 32), rel=1e-5)
    assert_same({name: 3 * 32 * 32 * value for name, value in normalized[1].items()}, plain[1], 1e-5)


def test_the_mean_over_two_ranks_is_the_gradient_of_one_process(make_model, make_images, losses):
    images = make_images(4, 32, 32)
    model = make_model(losses=losses, discriminator=None)
    whole = trained(model, images, (1, 2, 3, 4))[1]
    halves = [trained(model, images[part], seeds)[1] for part, seeds in ((slice(0, 2), (1, 2)), (slice(2, 4), (3, 4)))]
    assert_same({name: (value + halves[1][name]) / 2 for name, value in halves[0].items()}, whole, 2e-5)


def test_the_row_changes_the_gradient(make_model, make_images, losses):
    images = make_images(2, 32, 32)
    ours, plain = (trained(make_model(losses=rows, discriminator=None), images, (1, 2))[1]
                   for rows in (losses, {'pixel': PIXEL}))
    assert any(not torch.allclose(value, plain[name]) for name, value in ours.items())


def test_the_row_builds_without_numbers(make_model, losses):
    """As a forecast of memory builds it."""
    with torch.device('meta'):
        model = make_model(losses=losses, discriminator=None)
    assert len(model.losses) == 2
