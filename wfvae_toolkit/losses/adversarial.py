"""Adversarial term with a weight balanced against the reconstruction's gradient."""

import torch
import torch.nn.functional as F

from wfvae_toolkit.registry import LOSSES

from .base import Loss

# Guards the ratio where the discriminator's gradient vanishes (Esser et al. 2021, arXiv 2012.09841, eq. 7).
_RATIO_EPS = 1e-6


@LOSSES.register_module()
class AdversarialLoss(Loss):
    """-mean(D(reconstruction)) for the autoencoder, hinge for the discriminator.

    Its factor in the objective is ``weight * clamp(|d nll/dW| / (|d adv/dW| + 1e-6), 0, max_ratio)``, nll the sum of
    the rows in ``balance``, W the weight of the decoder's last conv (``adaptive_weight`` in the log).

    Args:
        balance (tuple[str]): rows of ``losses`` to balance against; empty: the factor is ``weight``.
    """

    def __init__(self, weight=0.5, balance=('pixel', 'perceptual'), max_ratio=1e6):
        super().__init__(weight)
        self.balance = tuple(balance)
        self.max_ratio = max_ratio

    def forward(self, step):
        return -step.discriminator(step.reconstruction).mean()

    def discriminator_loss(self, real_scores, fake_scores):
        """Scores (B, 1, h, w) -> 0.5 * (mean relu(1 - real) + mean relu(1 + fake))."""
        return 0.5 * (F.relu(1.0 - real_scores).mean() + F.relu(1.0 + fake_scores).mean())


def balanced_weight(balance_gradient, adversarial_gradient, max_ratio):
    """Norm of one gradient over that of the other, clamped to [0, max_ratio]; a scalar tensor."""
    ratio = balance_gradient.float().norm() / (adversarial_gradient.float().norm() + _RATIO_EPS)
    return torch.clamp(ratio, 0.0, max_ratio)
