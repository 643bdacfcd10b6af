"""Distances between pixels."""

from wfvae_toolkit.registry import LOSSES

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
