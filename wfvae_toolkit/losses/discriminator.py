"""Rows that train the discriminator, beside the objective of the adversarial row."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.models.discriminators import score_maps
from wfvae_toolkit.models.discriminators.features import batch_norms
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.distributed import average_over_ranks
from wfvae_toolkit.utils.errors import SettingError

from .base import HasExtras, Loss


@dataclass
class DiscriminatorStep(HasExtras):
    """One micro-batch of the discriminator's turn.

    Attributes:
        real, fake (Tensor): (B, 3, H, W) in [-1, 1], images and their reconstructions as the discriminator saw them,
            after its augmentation. They require gradients if a row has ``needs_image_gradient``.
        real_scores, fake_scores: output of the discriminator: (B, 1, h, w), or a list with one map per scale.
        discriminator (nn.Module): the network.
        full_precision (bool): whether the scores were computed without autocast.
    """

    real: torch.Tensor
    fake: torch.Tensor
    real_scores: torch.Tensor | list
    fake_scores: torch.Tensor | list
    discriminator: nn.Module
    full_precision: bool = True
    seeds: tuple[int, ...] | None = None  # one per image; None: torch's generator
    extras: dict = field(default_factory=dict)  # see ``Step.extras``
    masks_left_out: tuple[str, ...] = ()

    def features(self, kind):
        """Outputs of every layer for the ``'real'`` or ``'fake'`` images, by another forward pass."""
        return self.discriminator.features(getattr(self, kind))

    def score_gradient(self, kind):
        """(B, 3, H, W): gradient of each image's mean score, for the ``'real'`` or ``'fake'`` images, in float32.

        It can be differentiated again. Under autocast the scores are recomputed in float32, because squares of such
        gradients exceed float16's range.
        """
        images = getattr(self, kind)
        scores = getattr(self, f'{kind}_scores')
        if not self.full_precision:
            with torch.autocast(images.device.type, enabled=False):
                scores = self.discriminator(images)
        each = sum(scale.flatten(1).mean(1) for scale in score_maps(scores)) / len(score_maps(scores))
        gradient, = torch.autograd.grad(each.sum(), images, create_graph=True)
        return gradient


class DiscriminatorLoss(Loss):
    """A row of the discriminator's objective.

    ``forward(step)`` takes a DiscriminatorStep and gives a scalar with a gradient, without ``weight``. It
    counts in every turn of the discriminator.

    needs_image_gradient: rows that differentiate scores with respect to images.
    """

    trains = 'discriminator'
    needs_discriminator = True
    needs_image_gradient = False

    def check(self, discriminator):
        """SettingError if the row does not work with this discriminator, or if the row has parameters of its own."""
        if any(True for _ in self.parameters()):
            raise SettingError(f"{type(self).__name__} has parameters, which the discriminator's optimizer would not "
                               'train; put them into the discriminator')
        if self.needs_image_gradient and batch_norms(discriminator):
            raise SettingError(f'{type(self).__name__} needs a score of each image by itself, and with batch norm it '
                               "depends on the other images; use norm='spectral', 'instance' or 'none'")

    def after_update(self, log):
        """Called on every rank after an update; ``log`` is the mean over this rank's micro-batches."""


class _GradientPenalty(DiscriminatorLoss):
    """mean over images of |d D(x) / d x|^2 / 2 at the images of ``kind``; ``weight`` is the papers' gamma."""

    needs_image_gradient = True
    kind: str

    def __init__(self, weight=10.0):
        super().__init__(weight)

    def forward(self, step):
        return 0.5 * step.score_gradient(self.kind).square().flatten(1).sum(1).mean()


@LOSSES.register_module()
class R1Penalty(_GradientPenalty):
    """|d D(x) / d x|^2 / 2 at real images, summed over pixels (Mescheder et al. 2018, arXiv 1801.04406, equation 9).

    D(x) is the mean of an image's scores over positions and scales.
    """

    kind = 'real'


@LOSSES.register_module()
class R2Penalty(_GradientPenalty):
    """|d D(x) / d x|^2 / 2 at reconstructions (Mescheder et al. 2018, arXiv 1801.04406, equation 10); see R1Penalty."""

    kind = 'fake'


@LOSSES.register_module()
class LeCamLoss(DiscriminatorLoss):
    """mean (D(x) - a_fake)^2 + mean (D(G(x)) - a_real)^2 (Tseng et al. 2021, arXiv 2104.03310).

    a_real and a_fake are moving averages of the mean scores of all ranks, up to the previous update; checkpoints store
    them. In the first update there is no average, so the row is 0.

    Args:
        decay (float): of the averages; their start at 0 is corrected as in Adam.
        one_sided (bool): count only D(x) above a_fake and D(G(x)) below a_real, as in the authors' code.

    Raises:
        SettingError: ``decay`` is not in [0, 1).
    """

    def __init__(self, weight=0.001, decay=0.99, one_sided=False):
        super().__init__(weight)
        if not 0 <= decay < 1:
            raise SettingError(f'LeCamLoss: decay={decay!r}: a number from 0 and below 1 is needed, such as 0.99')
        self.decay, self.one_sided = decay, one_sided
        self.register_buffer('averages', torch.zeros(2))  # of real and fake scores
        self.register_buffer('weight_of_averages', torch.zeros(()))  # 1 - decay^updates

    def forward(self, step):
        # 0 / 0 before the first update: the clamp keeps it finite, the factor makes the row 0.
        real_average, fake_average = self.averages / self.weight_of_averages.clamp(min=1e-12)
        pairs = list(zip(score_maps(step.real_scores), score_maps(step.fake_scores), strict=True))
        clip = F.relu if self.one_sided else (lambda x: x)
        total = sum(clip(real - fake_average).square().mean() + clip(real_average - fake).square().mean()
                    for real, fake in pairs) / len(pairs)
        return total * (self.weight_of_averages > 0)

    def after_update(self, log):
        scores = torch.stack([log['scores/real'], log['scores/fake']]).to(self.averages)
        average_over_ranks([scores])
        self.averages.lerp_(scores, 1 - self.decay)
        self.weight_of_averages.lerp_(torch.ones_like(self.weight_of_averages), 1 - self.decay)
