"""The base of metrics that give one value for each image, and the batch that metrics see."""

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from wfvae_toolkit.models.posterior import LatentDistribution
from wfvae_toolkit.utils.device import widest_float
from wfvae_toolkit.utils.errors import SettingError


class UnfitPicture(SettingError):
    """An image of a size that a metric cannot score. Evaluations list it and go on with the others."""


@dataclass(frozen=True)
class EvaluationBatch:
    """Images (B, 3, H, W) in [0, 1] as the protocol scores them, and what they were made from.

    Attributes:
        target, reconstruction (Tensor): float32, on one device.
        latents (Tensor | None): (B, C, h, w), not normalised.
        paths (tuple[str]): of the targets, relative to the dataset.
        latent_dist (LatentDistribution | None): the posterior that ``latents`` are the mean of.
        autoencoder (nn.Module | None): that made them; images go in and out in [-1, 1].
        cache (dict): results that several metrics need, such as features of a network; each adds its own keys.
    """

    target: torch.Tensor
    reconstruction: torch.Tensor
    latents: torch.Tensor | None = None
    paths: tuple = ()
    latent_dist: LatentDistribution | None = None
    autoencoder: nn.Module | None = None
    cache: dict = field(default_factory=dict, compare=False, repr=False)

    def with_float64(self):
        """The same; where its device has no float64 (MPS), the images and latents are on the CPU."""
        if widest_float(self.target.device) == torch.float64:
            return self
        return replace(self, target=self.target.cpu(), reconstruction=self.reconstruction.cpu(),
                       latents=None if self.latents is None else self.latents.cpu())

    def need(self, name):
        """The field ``name``; SettingError where images alone are compared and there is none."""
        value = getattr(self, name)
        if value is None:
            raise SettingError(f'there is no {name} here: this metric looks at a model, not at pictures alone; leave '
                               'its row of val_evaluator.metrics out')
        return value


class Metric(nn.Module):
    """Base of the metrics that score image by image; a subclass sets two attributes and gives ``measure``.

    Attributes:
        higher_is_better (bool | dict | None): None if neither direction is better. A metric of several columns may
            give a dict by the column's name without the metric's.
        description (str): a line for the protocol.
    """

    higher_is_better: bool | dict | None
    description: str

    def measure(self, batch):
        """EvaluationBatch -> (B,) values, one per image; or a dict of them, whose names get columns ``metric.name``.

        Raises:
            UnfitPicture: it cannot score images of this size.
        """
        raise NotImplementedError
