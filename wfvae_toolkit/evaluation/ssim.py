"""Structural similarity with the settings of its paper, and with those of other projects."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F

from wfvae_toolkit.models.perceptual.ssim import GAUSSIAN, Window, check_pair, similarity, ssim_by_products
from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.device import widest_float
from wfvae_toolkit.utils.errors import SettingError, is_number

from .metric import Metric, UnfitPicture

try:
    import cv2
except ImportError:  # on a bare server without libGL: slower, the same numbers
    cv2 = None

BORDERS = {'valid': 'valid region', 'reflect': 'all pixels with reflected borders'}
STRIP = 256  # rows that a core filters at a time


def ssim(reconstruction, target, window=GAUSSIAN):
    """Two (B, 3, H, W) in [0, 1] -> (B,) float64, mean over the valid region (or all pixels) and the channels.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004), equation 13:
    11x11 Gaussian of sigma 1.5, population covariance, K1 0.01, K2 0.03, dynamic range 1; or another ``window``.

    Raises:
        SettingError: the shapes differ.
        UnfitPicture: an image is smaller than the window.
    """
    check_pair(reconstruction, target, window, too_small=UnfitPicture)
    if window.reflect:
        border = [window.size // 2] * 4
        reconstruction, target = (F.pad(image, border, mode='reflect') for image in (reconstruction, target))
    images = tuple(image if widest_float(image.device) == torch.float64 else image.cpu()
                   for image in (reconstruction, target))
    wants_gradient = torch.is_grad_enabled() and any(image.requires_grad for image in images)
    if cv2 is not None and images[0].device.type == 'cpu' and not wants_gradient:
        return torch.from_numpy(_by_strips(*(image.detach().to(torch.promote_types(image.dtype, torch.float32)).numpy()
                                             for image in images), window))
    return ssim_by_products(*(image.double() for image in images), window)


def _by_strips(x, y, window):
    """The same of NumPy arrays, on every core: strips of rows of one channel, whose maps stay in a core's cache."""
    batch, channels, height, width = x.shape
    border = window.size - 1
    starts = range(0, height - border, STRIP)

    def total(corner):
        image, channel, top = corner
        return _strip(*(maps[image, channel, top:top + STRIP + border] for maps in (x, y)), window)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        totals = list(threads.map(total, itertools.product(range(batch), range(channels), starts)))
    pixels = channels * (height - border) * (width - border)
    return np.array(totals).reshape(batch, -1).sum(1) / pixels


def _strip(x, y, window):
    """Sum of one channel's similarities over the valid region of (rows, W)."""
    x, y = x.astype(np.float64) + window.offset, y.astype(np.float64) + window.offset
    taps, valid = window.taps.numpy(), slice(window.size // 2, -(window.size // 2))
    maps = (cv2.sepFilter2D(maps, -1, taps, taps)[valid, valid] for maps in (x, y, x * x + y * y, x * y))
    return similarity(*maps, window.covariance_factor).sum()


@METRICS.register_module()
class SSIM(Metric):
    """SSIM of each image, mean over its pixels and channels. The defaults are the paper's; papers on images differ.

    Args:
        uniform_window (int): edge in px, odd, of a uniform window in place of the 11x11 Gaussian; scikit-image's
            default is 7.
        sample_covariance (bool): divide covariances by n - 1 in place of n; scikit-image's default.
        values (tuple[float, float]): the range that the values of [0, 1] are mapped to first; it is the dynamic range
            too. Only the place of 0 in it changes the result: (0, 255) gives that of (0, 1), (-1, 1) does not.
        border (str): 'valid' averages over the pixels whose window lies in the image; 'reflect' continues the image by
            reflection and averages over all pixels, as torchmetrics does from version 1.4.2 on.

    Raises:
        SettingError: a window that is even or below 3, a range whose end is not above its start, or another border.
    """

    higher_is_better = True

    def __init__(self, uniform_window: int | None = None, sample_covariance=False, values=(0, 1), border='valid'):
        super().__init__()
        if uniform_window is not None and not (is_number(uniform_window, 3, whole=True) and uniform_window % 2):
            raise SettingError(f'SSIM: uniform_window={uniform_window!r}; an odd number of px from 3, or None for the '
                               '11x11 Gaussian')
        if len(values) != 2 or not values[0] < values[1]:
            raise SettingError(f'SSIM: values={values!r}; the ends of a range, such as (-1, 1)')
        if border not in BORDERS:
            raise SettingError(f'SSIM: border={border!r}; use one of {", ".join(BORDERS)}')
        low, high = values
        self.window = Window(uniform_window, sample_covariance, low / (high - low), border == 'reflect')
        window = ('11x11 Gaussian of sigma 1.5' if uniform_window is None else
                  f'{uniform_window}x{uniform_window} uniform window')
        self.description = (f'SSIM, {window}, {BORDERS[border]}, {"sample" if sample_covariance else "population"} '
                            f'covariance, mean over RGB{f", values in [{low:g}, {high:g}]" if low else ""}')

    def measure(self, batch):
        return ssim(batch.reconstruction, batch.target, self.window)
