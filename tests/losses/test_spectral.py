import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture
def step(make_step):
    """Two pictures of 12x10 px, float64."""
    target, reconstruction = torch.randn(2, 2, 3, 12, 10, generator=torch.Generator().manual_seed(0)).double()
    return make_step(target=target, reconstruction=reconstruction)


def slow_spectrum(channel):
    """(H, W) -> the orthonormal DFT by its sum over pixels (Jiang et al., equation 1)."""
    height, width = channel.shape
    y, x = np.mgrid[:height, :width]
    return np.array([[(channel * np.exp(-2j * math.pi * (u * y / height + v * x / width))).sum() for v in range(width)]
                     for u in range(height)]) / math.sqrt(height * width)


# focal frequency

@pytest.mark.parametrize('alpha', [0.0, 1.0, 0.5])
def test_each_frequency_counts_by_its_own_error(step, alpha):
    total = 0.0
    for theirs, ours in zip(step.target, step.reconstruction, strict=True):
        for channel in range(3):
            size = np.abs(slow_spectrum(theirs[channel].numpy()) - slow_spectrum(ours[channel].numpy()))
            total += ((size**alpha / (size**alpha).max()) * size**2).sum()
    assert LOSSES.build(dict(type='FocalFrequencyLoss', alpha=alpha))(step).item() == pytest.approx(total / 2, rel=1e-6)


def test_with_alpha_zero_it_is_l2(step):
    focal, l2 = (LOSSES.build(settings)(step) for settings in (dict(type='FocalFrequencyLoss', alpha=0),
                                                               dict(type='L2Loss')))
    assert focal.item() == pytest.approx(l2.item(), rel=1e-6)


def test_weights_are_constants_for_the_gradient(make_step):
    """One wave of amplitude a: the loss is a^2, and so its derivative 2a; with a weight that moves it would be 3a."""
    wave = torch.cos(2 * math.pi * 2 * torch.arange(8) / 8).double().expand(1, 3, 8, 8)
    amplitude = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = LOSSES.build(dict(type='FocalFrequencyLoss'))
    value = loss(make_step(target=0 * wave, reconstruction=amplitude * wave))
    assert value.item() == pytest.approx(0.3**2 * 3 * 32)
    value.backward()
    assert amplitude.grad.item() == pytest.approx(2 * 0.3 * 3 * 32)


# high pass

@pytest.mark.parametrize('sigma', [1.0, 0.6])
def test_high_pass_is_what_scipy_s_blur_takes_away(step, sigma):
    error = (step.target - step.reconstruction).numpy()
    reach = math.ceil(3 * sigma)
    blurred = ndimage.gaussian_filter(error, sigma, axes=(2, 3), mode='mirror', radius=reach)
    expected = np.sqrt((error - blurred)**2 + 0.01**2).sum() / 2
    loss = LOSSES.build(dict(type='HighPassLoss', sigma=sigma, eps=0.01))
    assert loss(step).item() == pytest.approx(expected, rel=1e-6)


def test_a_slow_error_costs_little_beside_a_fast_one(make_step):
    loss = LOSSES.build(dict(type='HighPassLoss', eps=1e-6))
    target = torch.zeros(1, 3, 32, 32)
    slow, fast = (torch.cos(2 * math.pi * waves * torch.arange(32) / 32).expand_as(target) for waves in (1, 16))
    values = [loss(make_step(target=target, reconstruction=wave)).item() for wave in (slow, fast)]
    assert values[0] < 0.05 * values[1]
    assert not loss.state_dict()


# both

@pytest.mark.parametrize('name', ['FocalFrequencyLoss', 'HighPassLoss'])
def test_equal_pictures_have_a_finite_gradient(make_step, name):
    target = torch.rand(2, 3, 16, 16)
    reconstruction = target.clone().requires_grad_()
    LOSSES.build(dict(type=name))(make_step(target=target, reconstruction=reconstruction)).backward()
    assert not reconstruction.grad.any()


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(type='FocalFrequencyLoss', alpha=-1), 'alpha=-1; a number of 0 or above'),
    (dict(type='HighPassLoss', sigma=0), 'sigma=0; a number above 0'),
    (dict(type='HighPassLoss', eps=0.0), 'eps=0.0; a number above 0')])
def test_settings_that_do_not_work_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        LOSSES.build(settings)


def test_a_blur_wider_than_the_picture_is_refused(make_step):
    with pytest.raises(SettingError, match='4x4 px; the blur needs more than 6 px a side'):
        LOSSES.build(dict(type='HighPassLoss', sigma=2))(make_step())
