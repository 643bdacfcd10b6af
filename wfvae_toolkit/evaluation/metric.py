"""What a metric is: one number an image, with its direction and a line for the protocol."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class EvaluationBatch:
    """Images (B, 3, H, W) in [0, 1] as the protocol scores them, and what they were made from.

    Attributes:
        target, reconstruction (Tensor): float32, on one device.
        latents (Tensor | None): (B, C, h, w), not normalised.
        paths (tuple[str]): of the targets, relative to the dataset.
    """

    target: torch.Tensor
    reconstruction: torch.Tensor
    latents: torch.Tensor | None = None
    paths: tuple = ()


class Metric(nn.Module):
    """Base of the metrics in a config; a subclass sets the two attributes and gives ``measure``."""

    higher_is_better: bool
    description: str

    def measure(self, batch):
        """EvaluationBatch -> (B,) values, one an image."""
        raise NotImplementedError
