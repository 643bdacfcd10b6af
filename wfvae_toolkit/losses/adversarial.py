"""Adversarial term with a weight balanced against the reconstruction's gradient."""

import torch
import torch.nn.functional as F

from wfvae_toolkit.models.discriminators import score_maps
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError

from .base import Loss

# Keeps the ratio finite if the discriminator's gradient is 0 (Esser et al. 2021, arXiv 2012.09841, eq. 7).
_RATIO_EPS = 1e-6


def hinge(real, fake):
    """0.5 * (mean relu(1 - real) + mean relu(1 + fake)) (Lim and Ye 2017, arXiv 1705.02894)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def vanilla(real, fake):
    """0.5 * (mean softplus(-real) + mean softplus(fake)) (Goodfellow et al. 2014, arXiv 1406.2661)."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def relativistic(real, fake):
    """mean softplus(fake - real) over pairs of an image and its reconstruction (RpGAN; R3GAN, arXiv 2501.05441)."""
    return F.softplus(fake - real).mean()


OBJECTIVES = {'hinge': hinge, 'vanilla': vanilla, 'relativistic': relativistic}


@LOSSES.register_module()
class AdversarialLoss(Loss):
    """The adversarial game: one term for the autoencoder, ``objective`` for the discriminator.

    The autoencoder minimises -mean(D(reconstruction)), or with ``'relativistic'`` mean softplus(D(image) -
    D(reconstruction)). With several scales: the mean over them. Its factor is ``adaptive_weight`` in the log, see
    ``training/balance.py``.

    Args:
        balance (tuple[str]): rows of ``losses`` to balance against; empty: the factor is ``weight``.
        max_ratio (float): largest factor before ``weight``.
        objective (str): 'hinge', 'vanilla' or 'relativistic'.

    Raises:
        SettingError: an unknown objective, or a ``max_ratio`` that is not above 0.
    """

    needs_discriminator = True

    def __init__(self, weight=0.5, balance=('pixel', 'perceptual'), max_ratio=1e6, objective='hinge'):
        super().__init__(weight)
        if objective not in OBJECTIVES:
            raise SettingError(f'AdversarialLoss: objective={objective!r}; use one of {", ".join(OBJECTIVES)}')
        if not max_ratio > 0:
            raise SettingError(f'AdversarialLoss: max_ratio={max_ratio!r}; a number above 0 is needed, such as 1e6')
        self.objective = OBJECTIVES[objective]
        self.balance = tuple(balance)
        self.max_ratio = max_ratio

    def forward(self, step):
        fake_scores = step.discriminator(step.reconstruction)
        if self.objective is not relativistic:
            return -mean_score(fake_scores)
        with torch.no_grad():
            real_scores = step.discriminator(step.target)
        return self._mean_over_scales(fake_scores, real_scores)

    def discriminator_loss(self, step):
        """DiscriminatorStep -> scalar."""
        return self._mean_over_scales(step.real_scores, step.fake_scores)

    def _mean_over_scales(self, higher, lower):
        pairs = list(zip(score_maps(higher), score_maps(lower), strict=True))
        return sum(self.objective(*pair) for pair in pairs) / len(pairs)


@LOSSES.register_module()
class FeatureMatchingLoss(Loss):
    """mean |D_l(reconstruction) - D_l(target)| over the layers l of the discriminator, without the scores.

    Sum over scales and layers, times 4 / layers, divided by the number of scales (pix2pixHD, arXiv 1711.11585, equation
    3). The target's features get no gradient. The row starts with the adversarial row and is not balanced.
    """

    needs_discriminator = True

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def forward(self, step):
        with torch.no_grad():
            real_scales = as_scales(step.discriminator.features(step.target))
        fake_scales = as_scales(step.discriminator.features(step.reconstruction))
        total = 0.0
        for real_layers, fake_layers in zip(real_scales, fake_scales, strict=True):
            pairs = list(zip(real_layers[:-1], fake_layers[:-1], strict=True))
            total = total + sum((fake.float() - real.float()).abs().mean() for real, fake in pairs) * 4.0 / len(pairs)
        return total / len(real_scales)


def mean_score(scores):
    """Scores, one map or one per scale -> scalar: mean over scales of the map's mean."""
    maps = score_maps(scores)
    return sum(scale.mean() for scale in maps) / len(maps)


def as_scales(features):
    """Layers of one scale, or one list of layers per scale -> list of scales."""
    return features if isinstance(features[0], (list, tuple)) else [features]


def balanced_weight(balance_gradient, adversarial_gradient, max_ratio):
    """Norm of one gradient over that of the other, clamped to [0, max_ratio]; a scalar tensor."""
    ratio = balance_gradient.float().norm() / (adversarial_gradient.float().norm() + _RATIO_EPS)
    return torch.clamp(ratio, 0.0, max_ratio)
