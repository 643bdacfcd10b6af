"""Structural similarity of two batches, differentiable, with the window of its paper or another one."""

from dataclasses import dataclass

import torch

from wfvae_toolkit.utils.errors import SettingError

GAUSSIAN_SIZE = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


@dataclass(frozen=True)
class Window:
    """How local means and variances are taken.

    Attributes:
        uniform (int | None): edge in px of a uniform window; None: the paper's 11x11 Gaussian of sigma 1.5.
        sample_covariance (bool): divide by n - 1 in place of n; scikit-image's default.
        offset (float): added to the values first. SSIM depends on where 0 is: values in [-1, 1] with a dynamic range
            of 2 give the result of [0, 1] with an offset of -0.5.
        reflect (bool): continue the image beyond its borders by reflection, so that every pixel counts; False: only
            pixels count whose window lies in the image.
    """

    uniform: int | None = None
    sample_covariance: bool = False
    offset: float = 0.0
    reflect: bool = False

    @property
    def size(self):
        return GAUSSIAN_SIZE if self.uniform is None else self.uniform

    @property
    def taps(self):
        """(size,) float64 that sum to 1; the window is their outer product."""
        if self.uniform is not None:
            return torch.full((self.uniform,), 1 / self.uniform, dtype=torch.float64)
        offsets = torch.arange(GAUSSIAN_SIZE, dtype=torch.float64) - GAUSSIAN_SIZE // 2
        taps = torch.exp(-offsets.square() / (2 * SIGMA**2))
        return taps / taps.sum()

    @property
    def covariance_factor(self):
        pixels = self.size**2
        return pixels / (pixels - 1) if self.sample_covariance else 1.0


GAUSSIAN = Window()


def check_pair(reconstruction, target, window, too_small=SettingError):
    """SettingError unless both are (B, 3, H, W) of one shape; ``too_small``, an error, unless the window fits in."""
    if reconstruction.shape != target.shape:
        raise SettingError(f'reconstruction {tuple(reconstruction.shape)} and target {tuple(target.shape)}: SSIM needs '
                           'two (B, 3, H, W) of one shape')
    height, width = target.shape[-2:]
    if min(height, width) < window.size:
        raise too_small(f'{width}x{height} px: SSIM takes images of at least {window.size}x{window.size} px')


def differentiable_ssim(reconstruction, target, window=GAUSSIAN):
    """Two (B, 3, H, W) in [0, 1] -> (B,) SSIM in their own precision, with a gradient: for a loss.

    In float32 it is within 1e-4 of the metric.

    Raises:
        SettingError: the shapes differ, or the images are smaller than the window.
    """
    check_pair(reconstruction, target, window)
    return ssim_by_products(reconstruction, target, window)


def ssim_by_products(x, y, window):
    """SSIM on any device, differentiable. A float64 convolution takes five times as long on a CPU."""
    x, y = x + window.offset, y + window.offset
    rows, columns = (_filter_matrix(window, size, x.device).to(x.dtype) for size in x.shape[-2:])
    # Only the sum of the two variances appears in the formula, so four maps are filtered, not five.
    maps = (rows @ maps @ columns.T for maps in (x, y, x * x + y * y, x * y))
    return similarity(*maps, window.covariance_factor).mean((1, 2, 3))


def similarity(mean_x, mean_y, squares, product, factor):
    """Filtered maps, that of ``squares`` of x * x + y * y -> SSIM at every pixel; ``factor`` scales covariances."""
    mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    luminance = (2 * mean_product + K1**2) / (mean_squares + K1**2)
    contrast_structure = (2 * factor * (product - mean_product) + K2**2) / (factor * (squares - mean_squares) + K2**2)
    return luminance * contrast_structure


def _filter_matrix(window, size, device):
    """(size - w + 1, size) float64; row i averages the w samples of the window from i on."""
    matrix = torch.zeros(size - window.size + 1, size, dtype=torch.float64, device=device)
    for offset, weight in enumerate(window.taps):
        matrix.diagonal(offset).fill_(weight)
    return matrix
