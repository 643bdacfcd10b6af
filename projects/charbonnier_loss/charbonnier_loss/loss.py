"""The Charbonnier penalty between pixels."""

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.registry import LOSSES


@LOSSES.register_module()
class CharbonnierLoss(Loss):
    """sum sqrt((target - reconstruction)^2 + eps^2) per image: L1 with a rounded corner at zero.

    Charbonnier et al., Two deterministic half-quadratic regularization algorithms for computed imaging (ICIP 1994).

    Args:
        weight (float): factor in the objective.
        eps (float): radius of the corner, in units of pixel values in [-1, 1]; errors below it count as squares.
            Above 0: L1Loss is the limit.

    Raises:
        ValueError: ``eps`` is 0 or below.
    """

    def __init__(self, weight=1.0, eps=1e-3):
        super().__init__(weight)
        if eps <= 0:
            raise ValueError(f'eps={eps}: use a number above 0, such as 0.001, or L1Loss')
        self.eps = eps

    def forward(self, step):
        error = step.reconstruction - step.target
        return (error.square() + self.eps**2).sqrt().flatten(1).sum(1).mean()
