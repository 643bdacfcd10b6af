"""Scale and shift between a model's raw latents and the normalised ones that diffusion models train on."""

import math
from dataclasses import dataclass

import torch

from wfvae_toolkit.utils.errors import SettingError


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
