import pytest
import torch

from wfvae_toolkit.evaluation import ssim
from wfvae_toolkit.models.perceptual.ssim import Window, differentiable_ssim
from wfvae_toolkit.utils.errors import SettingError


def images(seed, size=(24, 17)):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('window', [Window(), Window(7, True, -0.5)])
def test_equals_the_metric(window):
    x, y = images(0), images(1)
    assert differentiable_ssim(x.double(), y.double(), window).tolist() == pytest.approx(
        ssim(x, y, window).tolist(), abs=1e-12)
    assert differentiable_ssim(x, y, window).tolist() == pytest.approx(ssim(x, y, window).tolist(), abs=1e-4)


def test_its_gradient_is_that_of_the_formula():
    x = images(2, (12, 13)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda image: differentiable_ssim(image, images(3, (12, 13)).double()), x,
                                    fast_mode=True)


def test_too_small_names_the_minimum():
    with pytest.raises(SettingError, match='9x12 px: SSIM takes images of at least 11x11 px'):
        differentiable_ssim(images(0, (12, 9)), images(1, (12, 9)))
