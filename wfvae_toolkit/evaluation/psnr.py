"""Peak signal-to-noise ratio."""

import math

import torch

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.device import as_float64
from wfvae_toolkit.utils.errors import SettingError, is_number

from .metric import Metric
from .statistics import student_t
from .whole_set import WholeSetMetric, WholeSetScore


def squared_error(reconstruction, target):
    """Two (B, 3, H, W) -> (B,) float64, mean squared error of each image."""
    # An image at a time: whole batches in float64 leave a CPU's cache and take three times as long.
    return torch.stack([(as_float64(ours) - as_float64(theirs)).square().mean()
                        for ours, theirs in zip(reconstruction, target, strict=True)])


def psnr(reconstruction, target, least_error=0.0):
    """Two (B, 3, H, W) in [0, 1] -> (B,) float64 in dB for a peak of 1; infinite where they are identical.

    A mean squared error below ``least_error`` counts as ``least_error``.
    """
    return -10 * squared_error(reconstruction, target).clamp(min=least_error).log10()


@METRICS.register_module()
class PSNR(Metric):
    """PSNR of each image over all its pixels and channels, in dB.

    Args:
        least_error (float): a smaller mean squared error counts as this one: 1e-10 gives identical images 100 dB, as
            some scripts do. With 0 they have an infinite PSNR, which is counted and left out of the mean.

    Raises:
        SettingError: a negative one.
    """

    higher_is_better = True

    def __init__(self, least_error=0.0):
        super().__init__()
        if not is_number(least_error, 0):
            raise SettingError(f'PSNR: least_error={least_error!r}; a mean squared error, 0 or above')
        self.least_error = least_error
        infinite = (f'at most {-10 * math.log10(least_error):g} dB' if least_error else
                    'infinite values are counted and left out of the mean')
        self.description = f'PSNR in dB, RGB, peak 1; {infinite}'

    def measure(self, batch):
        return psnr(batch.reconstruction, batch.target, self.least_error)


@METRICS.register_module()
class PooledPSNR(WholeSetMetric):
    """PSNR of the squared error pooled over all pixels of all images, in dB, with an interval.

    Some papers report this number as PSNR. By Jensen's inequality it is at most the mean of the PSNRs of images of one
    size, because images with a large error dominate it. The error is a ratio of sums over images: squared error over
    number of values. Its interval is the one of a ratio estimator (Cochran, Sampling Techniques, 1977, section 2.11)
    with Student's t. The derivative of the logarithm converts it to dB.
    """

    higher_is_better = True
    description = 'PSNR in dB of the squared error pooled over all images, RGB, peak 1'

    def __init__(self):
        super().__init__()
        # Over images: 1, values, error, and the products of the last two.
        self.add_sum('moments', 6)

    def update(self, images, reconstructions):
        values = torch.full((len(images),), float(images[0].numel()), dtype=torch.float64, device=images.device)
        error = values * squared_error(reconstructions, images)
        self.moments += torch.stack([torch.ones_like(values), values, error, values**2, values * error,
                                     error**2]).sum(1)

    def compute(self):
        count, values, error, values_squared, product, error_squared = self.moments.tolist()
        if not error:
            return math.inf
        ratio, ci95 = error / values, None
        if count > 1:
            residual = max(error_squared - 2 * ratio * product + ratio**2 * values_squared, 0.0)
            deviation = math.sqrt(count / (count - 1) * residual) / values
            ci95 = 10 / math.log(10) * student_t(round(count) - 1) * deviation / ratio
        return WholeSetScore(-10 * math.log10(ratio), ci95)
