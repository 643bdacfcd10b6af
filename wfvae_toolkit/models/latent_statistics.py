"""Statistics of latent channels: which of them are active, and the mean and std by which latents are normalised."""

import math
from dataclasses import dataclass

import torch

from wfvae_toolkit.utils.errors import SettingError

ACTIVE_KL_NATS = 0.01


def active_channels(kl, least_kl=0.0, threshold=ACTIVE_KL_NATS):
    """(..., C) KL divergence of channels -> (..., C) bool: whether a channel is active.

    A channel is active if its KL is more than ``threshold`` above the least that its posterior can have. Every other
    channel carries nothing about the image. This is the only definition; training, metrics and measurement use it.

    Args:
        kl (Tensor): from the standard normal, in nats per position, averaged over positions.
        least_kl (float | Tensor): KL of a channel that carries nothing; 0 for a Gaussian of free variance.
        threshold (float): in nats per position.
    """
    return kl - least_kl > threshold


@dataclass(frozen=True)
class LatentStatistics:
    """normalised = (raw - mean) / std, one mean and std a latent channel.

    Args:
        mean, std (tuple[float]): one value a channel; ``std`` above 0.

    Raises:
        SettingError: different lengths, or a value that is not finite or a std that is not above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not self.mean:
            raise SettingError(f'latent statistics: {len(self.mean)} means for {len(self.std)} stds')
        values = torch.tensor([*self.mean, *self.std], dtype=torch.float64)
        if not torch.isfinite(values).all() or min(self.std) <= 0:
            raise SettingError('latent statistics: means must be finite and stds finite and above 0')

    @classmethod
    def identity(cls, channels):
        """Raw latents are their own normalised ones."""
        return cls((0.0,) * channels, (1.0,) * channels)

    @classmethod
    def from_scale_shift(cls, scale, shift):
        """The earlier form, normalised = (raw - shift) * scale."""
        return cls(tuple(float(value) for value in shift), tuple(1.0 / value for value in scale))

    def normalize(self, latents):
        """(..., C, H, W) raw -> normalised, same dtype and device."""
        mean, std = self._like(latents)
        return (latents - mean) / std

    def denormalize(self, latents):
        """The inverse of ``normalize``."""
        mean, std = self._like(latents)
        return latents * std + mean

    def pooled(self):
        """(mean, std) of all channels' values together."""
        channels = len(self.mean)
        mean = sum(self.mean) / channels
        power = sum(std**2 + own**2 for own, std in zip(self.mean, self.std, strict=True)) / channels
        return mean, math.sqrt(power - mean**2)

    def _like(self, latents):
        if latents.shape[-3] != len(self.mean):
            raise SettingError(f'latents of shape {tuple(latents.shape)} for statistics of {len(self.mean)} channels')
        return (torch.tensor(values, dtype=latents.dtype, device=latents.device)[:, None, None]
                for values in (self.mean, self.std))
