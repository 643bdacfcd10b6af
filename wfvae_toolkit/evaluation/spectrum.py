"""Power of latents and images by spatial frequency.

After "Improving the Diffusability of Autoencoders" (Skorokhodov et al. 2025, arXiv 2502.14831), which compares cosine
spectra of both: latents with more power at high frequencies than images are harder for a diffusion model.
"""

import math

import torch

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.device import as_float64

from .metric import Metric, UnfitPicture

SMALLEST = 4  # positions an axis: three rings for a slope


def cosine_power(x):
    """(B, C, H, W) -> (B, H, W) float64: squares of the orthonormal DCT-II, summed over channels.

    A cosine transform sees the image continued by its mirror image, so that borders add no high frequencies.
    """
    x = as_float64(x)
    rows, columns = (_cosine_matrix(size, x.device) for size in x.shape[-2:])
    return (rows @ x @ columns.T).square().sum(1)


def radial_frequency(height, width, device=None):
    """(H, W) float64: sqrt((u/H)^2 + (v/W)^2) of coefficient (u, v), 1 where one axis reaches its Nyquist frequency."""
    u, v = (torch.arange(size, dtype=torch.float64, device=device) / size for size in (height, width))
    return torch.hypot(u[:, None], v[None])


def high_share(power):
    """(B, H, W) -> (B,): share of the power, the mean's left out, above half the Nyquist frequency.

    White noise has 1 - pi/16 = 0.804 there.
    """
    frequency = radial_frequency(*power.shape[1:], power.device)
    return power[:, frequency > 0.5].sum(1) / power[:, frequency > 0].sum(1)


def radial_slope(power):
    """(B, H, W) -> (B,): slope of log power against log frequency, least squares over rings; white noise has 0.

    A ring k = 1 .. R - 1, R = min(H, W), holds the frequencies from k/R to (k + 1)/R; its power and its frequency are
    means over its coefficients, and every ring counts alike.
    """
    height, width = power.shape[1:]
    rings = min(height, width)
    frequency = radial_frequency(height, width, power.device)
    # By the tolerance a frequency of exactly k/R belongs to ring k, whatever hypot rounds to.
    ring = (frequency * rings + 1e-9).long()
    members = [ring == number for number in range(1, rings)]
    x = torch.stack([frequency[inside].mean() for inside in members]).log()
    y = torch.stack([power[:, inside].mean(1) for inside in members], dim=1).log()
    x = x - x.mean()
    return (y @ x) / (x @ x)


@METRICS.register_module()
class LatentSpectrum(Metric):
    """Columns ``slope`` and ``high_share`` of the latents, ``image_slope`` and ``image_high_share`` of the image.

    Frequencies are relative to each one's own grid. Latents without any variation have no slope (NaN).

    Raises:
        UnfitPicture: latents of fewer than 4 positions an axis.
    """

    higher_is_better = None
    description = ('orthonormal cosine spectra, summed over channels: slope of log power against log frequency over '
                   'rings, share of the power above half the Nyquist frequency')

    def measure(self, batch):
        latents = batch.need('latents')
        if min(latents.shape[-2:]) < SMALLEST:
            raise UnfitPicture(f'LatentSpectrum: latents of {latents.shape[-1]}x{latents.shape[-2]} positions; use '
                               f'images that leave at least {SMALLEST} per axis')
        of_latents, of_image = cosine_power(latents), cosine_power(batch.target)
        return {'slope': radial_slope(of_latents), 'high_share': high_share(of_latents),
                'image_slope': radial_slope(of_image), 'image_high_share': high_share(of_image)}


def _cosine_matrix(size, device):
    """(size, size) float64, orthonormal; row k is cos(pi k (n + 1/2) / size)."""
    n = torch.arange(size, dtype=torch.float64, device=device)
    matrix = torch.cos(math.pi / size * n[:, None] * (n + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
