"""One-level 2-D wavelet transforms: ``analyze`` (B, C, H, W) -> (B, 4C, H/2, W/2) and its inverse.

Output channels are band-major: LL of all input channels, then LH, HL, HH, where the first letter is
the filter along W and the second the one along H (LH is low along W, high along H).
"""

import importlib
import math

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import WAVELETS
from wfvae_toolkit.utils.errors import SettingError


class Wavelet(nn.Module):
    """A transform with perfect reconstruction; subclasses give ``analyze`` and ``synthesize``.

    Wavelets hold no parameters and add nothing to a state dict.
    """

    def analyze(self, image):
        """(B, C, H, W), H and W even -> (B, 4C, H/2, W/2), bands LL, LH, HL, HH."""
        raise NotImplementedError

    def synthesize(self, bands):
        """(B, 4C, H, W) -> (B, C, 2H, 2W), the inverse of ``analyze``."""
        raise NotImplementedError

    def travelling_settings(self):
        """Further constructor arguments that rebuild the same wavelet without its library."""
        return {}

    def forward(self, image):
        return self.analyze(image)


@WAVELETS.register_module()
class Haar(Wavelet):
    """Orthonormal Haar transform, computed by slices: sums and differences of 2x2 blocks; it preserves energy."""

    def analyze(self, image):
        check_even(image)
        half = image * 0.5
        a, b = half[..., 0::2, 0::2], half[..., 0::2, 1::2]
        c, d = half[..., 1::2, 0::2], half[..., 1::2, 1::2]
        top, bottom, top_difference, bottom_difference = a + b, c + d, a - b, c - d
        return torch.cat([top + bottom, top - bottom,
                          top_difference + bottom_difference, top_difference - bottom_difference], dim=1)

    def synthesize(self, bands):
        ll, lh, hl, hh = split_bands(bands * 0.5)
        top, bottom = ll + lh, ll - lh
        top_difference, bottom_difference = hl + hh, hl - hh
        blocks = torch.stack([top + top_difference, top - top_difference,
                              bottom + bottom_difference, bottom - bottom_difference], dim=2)
        return F.pixel_shuffle(blocks.flatten(1, 2), 2)


@WAVELETS.register_module()
class DiscreteWavelet(Wavelet):
    """Any discrete wavelet of PyWavelets (db, sym, coif, bior, rbio, dmey families), periodic at the borders.

    Equal to ``pywt.dwt2(image, name, mode='periodization')``; the filters come from PyWavelets.
    Orthogonal families preserve energy. dmey is a finite approximation of an infinite filter: its inverse
    (PyWavelets' too) has an error of about 2e-2 on noise of unit variance; all others are exact.

    Args:
        name (str): e.g. ``'db2'``, ``'bior4.4'``.
        filters (list[list[float]]): its four filters in PyWavelets' order: analysis low and high, synthesis low and
            high. None: take them from PyWavelets. An exported model contains them.

    Raises:
        SettingError: not a discrete wavelet (the message lists all), or not four filters of one even length.
        MissingLibrary: ``filters`` is None and PyWavelets is not installed.
    """

    def __init__(self, name: str, filters=None):
        super().__init__()
        self.name = name
        self.filters = [list(taps) for taps in filters or pywavelets_filters(name)]
        lengths = {len(taps) for taps in self.filters}
        if len(self.filters) != 4 or len(lengths) != 1 or lengths.pop() % 2:
            raise SettingError(f'{name!r}: filters must be four lists of one even length')
        analysis_low, analysis_high, synthesis_low, synthesis_high = self.filters
        # diffusers builds a 16-bit model with a 16-bit default dtype, which would round the filters permanently.
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        # conv2d correlates, pywt convolves: reverse the analysis filters.
        analysis = torch.tensor([analysis_low[::-1], analysis_high[::-1]], dtype=dtype)
        synthesis = torch.tensor([synthesis_low, synthesis_high], dtype=dtype)
        # Orthonormal filters are synthesised with themselves, reversed.
        self.orthogonal = all(
            abs(left - right) < 1e-6
            for analysed, synthesised in ((analysis_low, synthesis_low), (analysis_high, synthesis_high))
            for left, right in zip(analysed[::-1], synthesised, strict=True))
        self.register_buffer('analysis', analysis, persistent=False)
        self.register_buffer('synthesis', synthesis, persistent=False)

    def travelling_settings(self):
        return {'filters': self.filters}

    def extra_repr(self):
        return repr(self.name)

    def analyze(self, image):
        check_even(image)
        rows = self._analyze_axis(image, -2)  # (B, 2, C, H/2, W): low, high along H
        bands = self._analyze_axis(rows.flatten(1, 2), -1)  # (B, 2, 2C, H/2, W/2): low, high along W
        return bands.flatten(1, 2)

    def synthesize(self, bands):
        check_bands(bands)
        batch, channels, height, width = bands.shape
        low_high_w = bands.reshape(batch, 2, channels // 2, height, width)
        rows = self._synthesize_axis(low_high_w, -1)  # (B, 2C, H, 2W)
        return self._synthesize_axis(rows.unflatten(1, (2, channels // 4)), -2)

    def _analyze_axis(self, image, axis):
        """(B, C, H, W) -> (B, 2, C, ...), low and high pass along ``axis``, halved there."""
        batch, channels = image.shape[:2]
        taps = self.analysis.shape[1]
        # pywt's phase: output k reads samples 2k + 1 - taps/2 to 2k + taps/2, wrapped.
        padded = wrap(image, axis, before=taps // 2 - 1, after=taps // 2 - 1)
        kernel = _along(self.analysis.to(image.dtype)[:, None], axis)
        out = F.conv2d(padded.reshape(batch * channels, 1, *padded.shape[2:]), kernel,
                       stride=(2, 1) if axis == -2 else (1, 2))
        return out.reshape(batch, channels, 2, *out.shape[2:]).transpose(1, 2)

    def _synthesize_axis(self, bands, axis):
        """(B, 2, C, H, W) low and high pass along ``axis`` -> (B, C, ...), doubled there."""
        batch, _, channels = bands.shape[:3]
        taps = self.synthesis.shape[1]
        size = bands.shape[axis]
        reach = math.ceil(taps / 4)
        padded = wrap(bands.transpose(1, 2).flatten(0, 1), axis, before=reach, after=reach)
        kernel = _along(self.synthesis.to(bands.dtype)[:, None], axis)
        out = F.conv_transpose2d(padded, kernel, stride=(2, 1) if axis == -2 else (1, 2))
        out = out.narrow(axis, 2 * reach + taps // 2 - 1, 2 * size)
        return out.reshape(batch, channels, *out.shape[2:])


@WAVELETS.register_module()
class PixelUnshuffle(Wavelet):
    """No wavelet, for ablations: the four pixels of each 2x2 block (a b / c d) are the bands, band-major.

    Orthonormal like Haar, so energies can be compared; its "low" band is every second pixel.
    """

    def analyze(self, image):
        check_even(image)
        return torch.cat([image[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], dim=1)

    def synthesize(self, bands):
        return F.pixel_shuffle(torch.stack(split_bands(bands), dim=2).flatten(1, 2), 2)


def pywavelets_filters(name):
    """The four filters of a discrete wavelet: analysis low and high, synthesis low and high."""
    # Imported by name: diffusers reports an import statement of an exported file if its package is not installed.
    pywt = importlib.import_module('pywt')
    known = pywt.wavelist(kind='discrete')
    if name not in known:
        raise SettingError(f'{name!r} is not a discrete wavelet of PyWavelets; known: {", ".join(known)}')
    return pywt.Wavelet(name).filter_bank


def split_bands(bands):
    """(B, 4C, H, W) -> LL, LH, HL, HH, each (B, C, H, W)."""
    check_bands(bands)
    return bands.chunk(4, dim=1)


def check_bands(bands):
    """SettingError unless the number of channels is a multiple of 4, one part per band."""
    if bands.shape[1] % 4:
        raise SettingError(f'{bands.shape[1]} band channels: a multiple of 4 is needed (LL, LH, HL, HH)')


def check_even(image):
    """SettingError unless height and width are even."""
    height, width = image.shape[-2:]
    if height % 2 or width % 2:
        raise SettingError(f'{width}x{height}: a wavelet level halves the image, so use even sizes')


def wrap(image, axis, before, after):
    """Periodic padding along one axis; the padding may be longer than the axis."""
    size = image.shape[axis]
    positions = torch.arange(-before, size + after, device=image.device)
    # The divisor is a tensor, because ONNX's exporter cannot use a size that is unknown at export as a number.
    return image.index_select(axis, positions % torch.full_like(positions, size))


def _along(filters, axis):
    """(2, 1, taps) -> conv2d weight (2, 1, taps, 1) for axis -2, (2, 1, 1, taps) for axis -1."""
    return filters[..., None] if axis == -2 else filters[:, :, None]
