"""Distances between pixels."""

from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError

from .base import Loss, sum_per_image


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
