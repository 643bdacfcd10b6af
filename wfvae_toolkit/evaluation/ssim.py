"""Structural similarity with the settings of its paper."""

import torch

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.errors import SettingError

from .metric import Metric

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def ssim(reconstruction, target):
    """Two (B, 3, H, W) in [0, 1] -> (B,) float64, mean over the valid region and the channels.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004), equation 13:
    11x11 Gaussian of sigma 1.5, population covariance, K1 0.01, K2 0.03, dynamic range 1.

    Raises:
        ValueError: an image is smaller than the window.
    """
    height, width = target.shape[-2:]
    if min(height, width) < WINDOW:
        raise SettingError(f'{height}x{width} px: SSIM takes images of at least {WINDOW}x{WINDOW} px')
    x, y = reconstruction.double(), target.double()
    rows, columns = _filter_matrix(height, x.device), _filter_matrix(width, x.device)
    # Only the sum of the two variances appears in the formula, so four maps are filtered, not five. Products with
    # band matrices take a fifth of a float64 convolution's time on a CPU at 1024 px.
    mean_x, mean_y, squares, product = (rows @ maps @ columns.T for maps in (x, y, x * x + y * y, x * y))
    mean_product, mean_squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    luminance = (2 * mean_product + K1**2) / (mean_squares + K1**2)
    contrast_structure = (2 * (product - mean_product) + K2**2) / (squares - mean_squares + K2**2)
    return (luminance * contrast_structure).mean((1, 2, 3))


def _filter_matrix(size, device):
    """(size - 10, size) float64; row i averages the 11 samples from i on."""
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=device) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    matrix = torch.zeros(size - WINDOW + 1, size, dtype=torch.float64, device=device)
    for offset, weight in enumerate(window / window.sum()):
        matrix.diagonal(offset).fill_(weight)
    return matrix


@METRICS.register_module()
class SSIM(Metric):
    """SSIM of each image, mean over its pixels and channels."""

    higher_is_better = True
    description = 'SSIM, 11x11 Gaussian of sigma 1.5, valid region, population covariance, mean over RGB'

    def measure(self, batch):
        return ssim(batch.reconstruction, batch.target)
