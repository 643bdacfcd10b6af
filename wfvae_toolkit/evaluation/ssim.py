"""Structural similarity with the settings of its paper."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.device import widest_float
from wfvae_toolkit.utils.errors import SettingError

from .metric import Metric, UnfitPicture

try:
    import cv2
except ImportError:  # on a bare server without libGL: slower, the same numbers
    cv2 = None

WINDOW = 11
SIGMA = 1.5
STRIP = 256  # rows that a core filters at a time
K1, K2 = 0.01, 0.03


def ssim(reconstruction, target):
    """Two (B, 3, H, W) in [0, 1] -> (B,) float64, mean over the valid region and the channels.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004), equation 13:
    11x11 Gaussian of sigma 1.5, population covariance, K1 0.01, K2 0.03, dynamic range 1.

    Raises:
        SettingError: the shapes differ.
        UnfitPicture: an image is smaller than the window.
    """
    if reconstruction.shape != target.shape:
        raise SettingError(f'reconstruction {tuple(reconstruction.shape)} and target {tuple(target.shape)}: SSIM needs '
                           'two (B, 3, H, W) of one shape')
    height, width = target.shape[-2:]
    if min(height, width) < WINDOW:
        raise UnfitPicture(f'{width}x{height} px: SSIM takes images of at least {WINDOW}x{WINDOW} px')
    images = tuple(image if widest_float(image.device) == torch.float64 else image.cpu()
                   for image in (reconstruction, target))
    wants_gradient = torch.is_grad_enabled() and any(image.requires_grad for image in images)
    if cv2 is not None and images[0].device.type == 'cpu' and not wants_gradient:
        return torch.from_numpy(_by_strips(*(image.detach().to(torch.promote_types(image.dtype, torch.float32)).numpy()
                                             for image in images)))
    return _by_products(*(image.double() for image in images))


def _by_products(x, y):
    """SSIM on any device, differentiable. A float64 convolution takes five times as long on a CPU."""
    rows, columns = (_filter_matrix(size, x.device) for size in x.shape[-2:])
    # Only the sum of the two variances appears in the formula, so four maps are filtered, not five.
    maps = (rows @ maps @ columns.T for maps in (x, y, x * x + y * y, x * y))
    return _similarity(*maps).mean((1, 2, 3))


def _by_strips(x, y):
    """The same of NumPy arrays, on every core: strips of rows of one channel, whose maps stay in a core's cache."""
    batch, channels, height, width = x.shape
    starts = range(0, height - WINDOW + 1, STRIP)

    def total(corner):
        image, channel, top = corner
        return _strip(*(maps[image, channel, top:top + STRIP + WINDOW - 1] for maps in (x, y)))

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        totals = list(threads.map(total, itertools.product(range(batch), range(channels), starts)))
    pixels = channels * (height - WINDOW + 1) * (width - WINDOW + 1)
    return np.array(totals).reshape(batch, -1).sum(1) / pixels


def _strip(x, y):
    """Sum of one channel's similarities over the valid region of (rows, W)."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    window, valid = _window().numpy(), slice(WINDOW // 2, -(WINDOW // 2))
    maps = (cv2.sepFilter2D(maps, -1, window, window)[valid, valid] for maps in (x, y, x * x + y * y, x * y))
    return _similarity(*maps).sum()


def _similarity(mean_x, mean_y, squares, product):
    """Filtered maps, that of ``squares`` of x * x + y * y -> SSIM at every pixel."""
    mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    luminance = (2 * mean_product + K1**2) / (mean_squares + K1**2)
    contrast_structure = (2 * (product - mean_product) + K2**2) / (squares - mean_squares + K2**2)
    return luminance * contrast_structure


def _window():
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    return window / window.sum()


def _filter_matrix(size, device):
    """(size - 10, size) float64; row i averages the 11 samples from i on."""
    matrix = torch.zeros(size - WINDOW + 1, size, dtype=torch.float64, device=device)
    for offset, weight in enumerate(_window()):
        matrix.diagonal(offset).fill_(weight)
    return matrix


@METRICS.register_module()
class SSIM(Metric):
    """SSIM of each image, mean over its pixels and channels."""

    higher_is_better = True
    description = 'SSIM, 11x11 Gaussian of sigma 1.5, valid region, population covariance, mean over RGB'

    def measure(self, batch):
        return ssim(batch.reconstruction, batch.target)
