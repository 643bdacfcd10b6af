import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import structural_similarity

from wfvae_toolkit.evaluation import SSIM, EvaluationBatch, ssim
from wfvae_toolkit.models.perceptual.ssim import Window

REFERENCE = json.loads((Path(__file__).parents[1] / 'data' / 'metrics.json').read_text())


@pytest.mark.parametrize('case', REFERENCE, ids=lambda case: case['image'])
def test_reference(case):
    image = getattr(data, case['image'])()
    noise = np.random.default_rng(0).normal(0, case['noise_sigma'], image.shape)
    noisy = (image + noise).round().clip(0, 255).astype(np.uint8)
    target, reconstruction = (torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in (image, noisy))
    assert ssim(reconstruction, target).item() == pytest.approx(case['ssim'], abs=1e-6)


@pytest.mark.parametrize('size', [(11, 11), (11, 40), (37, 23)])
def test_equals_scikit_image_per_image(size):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, *size, generator=generator)
    reconstruction = (target + 0.2 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    expected = [structural_similarity(
        a.double().numpy(), b.double().numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1.0, channel_axis=0) for a, b in zip(target, reconstruction, strict=True)]
    measured = ssim(reconstruction, target)
    assert measured.dtype == torch.float64
    assert measured.tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(('size', 'uniform'), [((11, 40), 7), ((37, 23), 11)])
def test_scikit_image_s_defaults_and_another_place_of_zero(size, uniform):
    target, reconstruction = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    expected = [structural_similarity(a.numpy(), b.numpy(), win_size=uniform, data_range=1.0, channel_axis=0)
                for a, b in zip(target, reconstruction, strict=True)]
    assert ssim(reconstruction, target, Window(uniform, True)).tolist() == pytest.approx(expected, abs=1e-12)
    expected = [structural_similarity(2 * a.numpy() - 1, 2 * b.numpy() - 1, win_size=uniform, data_range=2.0,
                                      use_sample_covariance=False, channel_axis=0)
                for a, b in zip(target, reconstruction, strict=True)]
    moved = SSIM(uniform_window=uniform, values=(-1, 1))
    batch = EvaluationBatch(target, reconstruction)
    assert moved.measure(batch).tolist() == pytest.approx(expected, abs=1e-12)
    assert (SSIM(uniform_window=uniform, values=(0, 255)).measure(batch) - moved.measure(batch)).abs().min() > 1e-3


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(uniform_window=4), 'uniform_window=4; an odd number of px from 3'), (dict(values=(1, 1)), r'values=\(1, 1\)'),
    (dict(border='zero'), "border='zero'; use one of valid, reflect")])
def test_a_setting_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SSIM(**settings)


def test_identical_images_score_one():
    image = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert ssim(image, image).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_is_differentiable():
    target, reconstruction = torch.rand(2, 1, 3, 12, 13, dtype=torch.float64,
                                        generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: ssim(x, target), reconstruction.requires_grad_(), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: ssim(reconstruction.detach(), x), target.requires_grad_(), fast_mode=True)


def test_too_small_names_the_minimum():
    with pytest.raises(ValueError, match='32x10 px: SSIM takes images of at least 11x11 px'):
        ssim(torch.zeros(1, 3, 10, 32), torch.zeros(1, 3, 10, 32))


@pytest.mark.parametrize('size', [(11, 12), (300, 40), (266, 11)])
@pytest.mark.parametrize('window', [Window(), Window(7, True, -0.5), Window(reflect=True)])
def test_both_ways_are_equal(size, window, monkeypatch):
    """OpenCV's filter in strips of 256 rows; matrix products where there is no OpenCV, and on a GPU."""
    target, reconstruction = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0))
    strips = ssim(reconstruction, target, window)
    monkeypatch.setattr(sys.modules[ssim.__module__], 'cv2', None)
    assert torch.allclose(ssim(reconstruction, target, window), strips, rtol=0, atol=1e-14)


@pytest.mark.parametrize('size', [(1, 3, 300, 20), (2, 3, 280, 20)])
def test_shapes_must_agree(size):
    with pytest.raises(ValueError, match='of one shape'):
        ssim(torch.zeros(size), torch.zeros(2, 3, 300, 20))


def test_takes_what_a_network_gives():
    target, reconstruction = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        assert ssim(reconstruction.requires_grad_(), target).shape == (1,)
