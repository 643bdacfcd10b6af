import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from wfvae_toolkit.evaluation import PSNR, psnr

REFERENCE = json.loads((Path(__file__).parents[1] / 'data' / 'metrics.json').read_text())


@pytest.mark.parametrize('case', REFERENCE, ids=lambda case: case['image'])
def test_reference(case):
    image = getattr(data, case['image'])()
    noise = np.random.default_rng(0).normal(0, case['noise_sigma'], image.shape)
    noisy = (image + noise).round().clip(0, 255).astype(np.uint8)
    target, reconstruction = (torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in (image, noisy))
    assert psnr(reconstruction, target).item() == pytest.approx(case['psnr'], abs=1e-4)


def test_equals_scikit_image_per_image():
    target, reconstruction = torch.rand(2, 3, 3, 17, 23, generator=torch.Generator().manual_seed(0))
    expected = [peak_signal_noise_ratio(a.double().numpy(), b.double().numpy(), data_range=1)
                for a, b in zip(target, reconstruction, strict=True)]
    measured = psnr(reconstruction, target)
    assert measured.dtype == torch.float64
    assert measured.tolist() == pytest.approx(expected, abs=1e-10)


def test_a_constant_error_of_a_tenth_is_20_db():
    target = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    assert psnr(target + 0.1, target).item() == pytest.approx(20)


def test_identical_images_are_infinite():
    assert psnr(torch.ones(2, 3, 8, 8), torch.ones(2, 3, 8, 8)).tolist() == [math.inf, math.inf]


def test_a_least_error_bounds_the_psnr():
    images = torch.zeros(2, 3, 4, 4)
    assert psnr(images, images, 1e-10).tolist() == pytest.approx([100.0, 100.0])
    assert psnr(images, images + 0.1, 1e-10).tolist() == pytest.approx(psnr(images, images + 0.1).tolist())
    with pytest.raises(ValueError, match='least_error=-1'):
        PSNR(least_error=-1)
