import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from tests.helpers import noise
from wfvae_toolkit.evaluation import EvaluationBatch, LatentSpectrum
from wfvae_toolkit.evaluation.spectrum import cosine_power, high_share, radial_frequency, radial_slope


def test_power_is_scipys_cosine_transform_and_keeps_energy():
    x = noise(2, 3, 12, 20)
    expected = dctn(x.double().numpy(), axes=(2, 3), norm='ortho')**2
    torch.testing.assert_close(cosine_power(x), torch.from_numpy(expected.sum(1)))
    torch.testing.assert_close(cosine_power(x).sum((1, 2)), x.double().square().sum((1, 2, 3)))


def test_white_noise_is_flat():
    power = cosine_power(noise(1, 64, 64, 64))
    assert high_share(power).item() == pytest.approx(1 - math.pi / 16, abs=0.01)
    assert radial_slope(power).item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize('size', [(64, 64), (48, 80)])
@pytest.mark.parametrize('exponent', [-1.0, -2.0])
def test_power_law_gives_its_exponent(size, exponent):
    frequency = radial_frequency(*size).numpy()
    amplitude = np.where(frequency > 0, np.maximum(frequency, 1e-9)**(exponent / 2), 7.0)
    signs = np.sign(noise(*size).numpy())
    picture = torch.from_numpy(idctn(signs * amplitude, norm='ortho'))[None, None]
    assert radial_slope(cosine_power(picture)).item() == pytest.approx(exponent, abs=0.05)


def test_high_share_counts_by_frequency():
    for u, expected in ((3, 0.0), (4, 0.0), (5, 1.0)):  # of 8: 4/8 is half the Nyquist frequency, and not above
        wave = torch.cos(math.pi / 8 * u * (torch.arange(8) + 0.5))[:, None].expand(8, 8)
        share = high_share(cosine_power(100 + wave[None, None]))  # the mean does not count
        assert share.item() == pytest.approx(expected, abs=1e-9)


def test_scale_and_mean_do_not_count():
    x = noise(1, 2, 16, 16)
    for measure in (high_share, radial_slope):
        torch.testing.assert_close(measure(cosine_power(3 * x + 5)), measure(cosine_power(x)), atol=1e-5, rtol=1e-5)


def test_metric_compares_latents_with_the_image():
    latents, image = noise(2, 4, 16, 16), noise(2, 3, 64, 64).cumsum(2).cumsum(3)
    values = LatentSpectrum().measure(EvaluationBatch(image, image, latents))
    assert (values['slope'] > values['image_slope'] + 1).all()
    assert (values['high_share'] > values['image_high_share']).all()


def test_too_few_positions():
    with pytest.raises(ValueError, match='latents of 3x8 positions; use images that leave at least 4'):
        LatentSpectrum().measure(EvaluationBatch(None, None, noise(1, 2, 8, 3)))
