"""Divergence of the posterior from the standard normal."""

from wfvae_toolkit.registry import LOSSES

from .base import Loss, sum_per_image


@LOSSES.register_module()
class KLLoss(Loss):
    """sum 0.5 * (mean^2 + var - 1 - logvar) per image, in nats (Kingma and Welling 2014, appendix B)."""

    def __init__(self, weight=1e-6):
        super().__init__(weight)

    def forward(self, step):
        return sum_per_image(step.latent_dist.kl())
