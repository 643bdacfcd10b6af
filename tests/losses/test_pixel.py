import pytest
import torch
from skimage.metrics import structural_similarity

from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError

# 2 images of 48 values: 0.5 off everywhere in one, one value 3 off in the other.
RECONSTRUCTION = torch.zeros(2, 3, 4, 4)
RECONSTRUCTION[0] = -0.5
RECONSTRUCTION[1, 2, 3, 1] = 3.0


@pytest.mark.parametrize(('name', 'expected'), [('L1Loss', (48 * 0.5 + 3) / 2), ('L2Loss', (48 * 0.25 + 9) / 2)])
def test_is_the_sum_per_image(make_step, name, expected):
    loss = LOSSES.build(dict(type=name))
    assert loss(make_step(reconstruction=RECONSTRUCTION)).item() == expected
    assert loss(make_step(target=RECONSTRUCTION)).item() == expected
    assert loss(make_step(target=RECONSTRUCTION, reconstruction=RECONSTRUCTION)).item() == 0
    assert loss.weight == 1.0


@pytest.mark.parametrize('name', ['L1Loss', 'L2Loss'])
def test_gradient_does_not_depend_on_the_resolution(make_step, name):
    gradients = []
    for size in (4, 8):
        reconstruction = torch.full((2, 3, size, size), 0.25, requires_grad=True)
        LOSSES.build(dict(type=name))(make_step(target=torch.zeros(2, 3, size, size),
                                                reconstruction=reconstruction)).backward()
        gradients.append(reconstruction.grad.unique().item())
    assert gradients[0] == gradients[1] == {'L1Loss': 0.5, 'L2Loss': 0.25}[name]


def test_ssim_is_scikit_image_s_of_values_from_0_to_1(make_step):
    target, reconstruction = 2 * torch.rand(2, 2, 3, 20, 24, generator=torch.Generator().manual_seed(0)) - 1
    expected = sum(1 - structural_similarity(
        (a.numpy() + 1) / 2, (b.numpy() + 1) / 2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1.0, channel_axis=0) for a, b in zip(target, reconstruction, strict=True)) / 2
    loss = LOSSES.build(dict(type='SSIMLoss'))
    step = make_step(target=target, reconstruction=reconstruction.requires_grad_())
    assert loss(step).item() == pytest.approx(expected * 3 * 20 * 24, rel=1e-5)
    reconstruction.grad, = torch.autograd.grad(loss(step), reconstruction)
    better = make_step(target=target, reconstruction=reconstruction - 1e-3 * reconstruction.grad)
    assert loss(better) < loss(step)
    assert loss(make_step(target=target, reconstruction=target)).item() == pytest.approx(0, abs=1e-2)


def test_pictures_below_the_window_of_ssim_are_refused(make_step):
    with pytest.raises(SettingError, match='4x4 px: SSIM takes images of at least 11x11 px'):
        LOSSES.build(dict(type='SSIMLoss'))(make_step())


def test_a_mask_weights_each_pixel(make_step):
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    mask[0, :, :2], mask[1, :, 3, 1] = 255, 51
    loss = LOSSES.build(dict(type='MaskedL1Loss', mask='weight'))
    step = make_step(reconstruction=RECONSTRUCTION, extras=dict(weight=mask))
    assert loss(step).item() == pytest.approx((24 * 0.5 + 0.2 * 3) / 2)
    whole = make_step(reconstruction=RECONSTRUCTION, extras=dict(weight=torch.full_like(mask, 255)))
    assert loss(whole).item() == LOSSES.build(dict(type='L1Loss'))(whole).item()


@pytest.mark.parametrize(('extras', 'message'), [
    ({}, r"no extra field 'mask', but \[\]; the training dataset must give it"),
    (dict(mask=torch.zeros(2, 1, 4, 5)), "'mask' is no mask"), (dict(mask=['a', 'b']), "'mask' is no mask")])
def test_what_is_no_mask_is_named(make_step, extras, message):
    with pytest.raises(SettingError, match=message):
        LOSSES.build(dict(type='MaskedL1Loss'))(make_step(extras=extras))
