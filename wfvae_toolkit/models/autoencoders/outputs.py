"""What every autoencoder returns."""

from dataclasses import dataclass

import torch

from ..posterior import LatentDistribution


@dataclass
class EncoderOutput:
    """``latent_dist`` over (B, latent_channels, H/f, W/f); ``bands``: wavelet bands of each stage, image first."""

    latent_dist: LatentDistribution
    bands: tuple[torch.Tensor, ...] = ()


@dataclass
class DecoderOutput:
    """``sample``: (B, 3, H, W), about [-1, 1]; ``bands``: wavelet bands of each stage, latent first."""

    sample: torch.Tensor
    bands: tuple[torch.Tensor, ...] = ()
