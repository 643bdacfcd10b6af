"""Distances between pixels."""

from wfvae_toolkit.models.perceptual.ssim import differentiable_ssim
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError

from .base import Loss, in_full_precision, sum_per_image


@LOSSES.register_module()
class L1Loss(Loss):
    """sum |target - reconstruction| per image."""

    def forward(self, step):
        return sum_per_image((step.target - step.reconstruction).abs())


@LOSSES.register_module()
class L2Loss(Loss):
    """sum (target - reconstruction)^2 per image."""

    def forward(self, step):
        return sum_per_image((step.target - step.reconstruction).square())


@LOSSES.register_module()
class SSIMLoss(Loss):
    """C*H*W times (1 - SSIM), mean over the images (Wang et al. 2004, equation 13).

    The metric's SSIM of pictures in [0, 1], not clamped: 11x11 Gaussian, mean over channels and the valid region. In
    float32.

    Raises:
        SettingError: images of less than 11 px a side.
    """

    def forward(self, step):
        with in_full_precision(step.target, step.reconstruction) as pictures:
            target, reconstruction = ((picture + 1) / 2 for picture in pictures)
            return step.values_per_image * (1 - differentiable_ssim(reconstruction, target)).mean()


@LOSSES.register_module()
class MaskedL1Loss(Loss):
    """sum mask * |target - reconstruction| per image, of a mask from 0 to 1.

    Args:
        mask (str): extra field of the samples, uint8 (B, 1, H, W); 255 counts as 1.

    Raises:
        SettingError: samples have no such mask.
    """

    def __init__(self, weight=1.0, mask='mask'):
        super().__init__(weight)
        self.mask = mask

    def forward(self, step):
        mask, (count, _, *size) = step.extra(self.mask), step.target.shape
        if getattr(mask, 'shape', None) != (count, 1, *size):
            raise SettingError(f'MaskedL1Loss: the extra field {self.mask!r} is no mask: give a Mask for each picture')
        return sum_per_image(mask / 255 * (step.target - step.reconstruction).abs())
