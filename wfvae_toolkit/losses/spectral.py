"""Rows that weigh the error between pictures by its spatial frequency."""

import math

import torch
import torch.nn.functional as F

from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError, is_number

from .base import Loss, in_full_precision, sum_per_image


@LOSSES.register_module()
class FocalFrequencyLoss(Loss):
    """sum over channels and frequencies of w * |F(target) - F(reconstruction)|^2 per image, F the orthonormal 2-D DFT.

    w = |F(target) - F(reconstruction)|^alpha over its largest value in the channel of the image, a constant for the
    gradient: frequencies with a large error count most. Equations 6 to 8 of Jiang et al. 2021 (Focal Frequency Loss,
    arXiv 2012.12821), whose mean over frequencies is a sum here; with alpha 0 it is L2Loss.

    Args:
        alpha (float): 0 or above; the larger it is, the more the hardest frequencies count.

    Raises:
        SettingError: ``alpha`` is negative.
    """

    def __init__(self, weight=1.0, alpha=1.0):
        super().__init__(weight)
        if not is_number(alpha, 0) or math.isinf(alpha):
            raise SettingError(f'FocalFrequencyLoss: alpha={alpha!r}; a number of 0 or above is needed, such as 1.0')
        self.alpha = alpha

    def forward(self, step):
        with in_full_precision(step.target, step.reconstruction) as (target, reconstruction):
            spectrum = torch.fft.fft2(target - reconstruction, norm='ortho')
            distance = spectrum.real.square() + spectrum.imag.square()
            weight = distance.detach().pow(self.alpha / 2)
            largest = weight.amax((2, 3), keepdim=True)
            # Without any error the largest is 0, and so is the loss.
            return sum_per_image(weight / largest.clamp_min(torch.finfo(weight.dtype).tiny) * distance)


@LOSSES.register_module()
class HighPassLoss(Loss):
    """sum sqrt(h^2 + eps^2) per image, h the error between pictures without what a Gaussian blur keeps of it.

    Charbonnier's penalty on high frequencies, after the Gaussian high-frequency loss of LiteVAE (Sadat et al. 2024,
    arXiv 2405.14477); the width of the Gaussian is our choice. Borders are reflected. Beside WaveletBandLoss it is the
    second of that paper's terms for high frequencies.

    Args:
        sigma (float): of the Gaussian in px; it is cut off at 3 sigma.
        eps (float): below it an error counts by its square.

    Raises:
        SettingError: ``sigma`` or ``eps`` is not above 0; images not larger than 3 sigma.
    """

    def __init__(self, weight=1.0, sigma=1.0, eps=1e-3):
        super().__init__(weight)
        for name, value in (('sigma', sigma), ('eps', eps)):
            if not is_number(value) or not 0 < value < math.inf:
                raise SettingError(f'HighPassLoss: {name}={value!r}; a number above 0 is needed')
        self.eps, self.reach = eps, math.ceil(3 * sigma)
        offsets = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64)
        taps = torch.exp(-offsets.square() / (2 * sigma**2))
        self.register_buffer('taps', (taps / taps.sum()).float(), persistent=False)

    def forward(self, step):
        height, width = step.target.shape[-2:]
        if min(height, width) <= self.reach:
            raise SettingError(f'HighPassLoss: {width}x{height} px; the blur needs more than {self.reach} px a side')
        with in_full_precision(step.target, step.reconstruction) as (target, reconstruction):
            error = target - reconstruction  # both filters are linear
            return sum_per_image(((error - self.blur(error)).square() + self.eps**2).sqrt())

    def blur(self, x):
        """(B, C, H, W) -> the same, blurred."""
        rows = F.pad(x.flatten(0, 1)[:, None], [self.reach] * 4, mode='reflect')
        taps = self.taps.to(x.dtype)
        columns = F.conv2d(rows, taps.view(1, 1, -1, 1))
        return F.conv2d(columns, taps.view(1, 1, 1, -1)).view(x.shape)
