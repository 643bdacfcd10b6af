"""Halving and doubling of feature maps.

DOWNSAMPLERS and UPSAMPLERS parts take ``channels`` and ``next_channels``, the widths of this stage and the next,
and say in ``out_channels`` which of them they give. ``receptive_halo`` counts pixels at the finer of the two sizes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import DOWNSAMPLERS, UPSAMPLERS
from wfvae_toolkit.utils.errors import SettingError

from .norms import without_autocast


@DOWNSAMPLERS.register_module()
class StridedDownsample(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2): zero-pad right and bottom by 1, 3x3 conv with stride 2."""

    receptive_halo = (0, 1)

    def __init__(self, channels, next_channels=None):
        super().__init__()
        self.out_channels = channels
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


@UPSAMPLERS.register_module()
class NearestUpsample(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): nearest neighbour, 3x3 conv.

    Computed as one transposed 4x4 convolution of stride 2, which is equal to both steps. It needs 4 products per output
    value and channel in place of 9, and no enlarged tensor.
    """

    receptive_halo = 1

    def __init__(self, channels, next_channels=None):
        super().__init__()
        self.out_channels = channels
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        if type(self.conv) is not nn.Conv2d:  # an adapter such as LoRA's computes more than its weight says
            return self.conv(F.interpolate(x, scale_factor=2.0, mode='nearest'))
        kernel = enlarging_kernel(self.conv.weight)
        return F.conv_transpose2d(x, kernel, self.conv.bias, stride=2, padding=1)


def enlarging_kernel(weight):
    """(O, I, 3, 3) of a convolution after nearest-neighbour doubling -> (I, O, 4, 4) of the transposed one.

    In the doubled map each input value appears at two neighbouring places. Each tap of the transposed kernel is the sum
    of the taps of the mirrored kernel that read these places.
    """
    # [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], made on the device: a copy from the CPU would wait for it.
    places = torch.arange(4, device=weight.device)[:, None] + torch.arange(3, device=weight.device)
    sums = (places // 2 == 1).to(weight.dtype)
    with without_autocast(weight):
        taps = torch.kron(sums, sums) @ weight.permute(2, 3, 1, 0).flatten(2).flatten(0, 1)
    return taps.unflatten(0, (4, 4)).unflatten(2, (weight.shape[1], weight.shape[0])).permute(2, 3, 0, 1)


@DOWNSAMPLERS.register_module()
class ResidualDownsample(nn.Module):
    """(B, C, H, W) -> (B, next, H/2, W/2): 3x3 conv and pixel-unshuffle, plus the unshuffled input itself.

    The shortcut has no weights: 4C channels are averaged over consecutive groups, or repeated as a whole, to the
    next width (DC-AE, Chen et al. 2024, arXiv 2410.10733, figure 4).

    Raises:
        SettingError: neither of the two widths of the shortcut divides the other.
    """

    receptive_halo = 1

    def __init__(self, channels, next_channels):
        super().__init__()
        if next_channels % 4:
            raise SettingError(f'ResidualDownsample: {next_channels} output channels; a multiple of 4 is needed')
        _check_ratio('ResidualDownsample', 4 * channels, next_channels)
        self.out_channels = next_channels
        self.conv = nn.Conv2d(channels, next_channels // 4, 3, padding=1)

    def forward(self, x):
        return F.pixel_unshuffle(self.conv(x), 2) + average_or_tile(F.pixel_unshuffle(x, 2), self.out_channels)


@UPSAMPLERS.register_module()
class ResidualUpsample(nn.Module):
    """(B, C, H, W) -> (B, next, 2H, 2W): 3x3 conv and pixel-shuffle, plus the input repeated and shuffled.

    Source: see ``ResidualDownsample``.

    Raises:
        SettingError: C does not divide 4 * next.
    """

    receptive_halo = 2  # a pixel of the input

    def __init__(self, channels, next_channels):
        super().__init__()
        if 4 * next_channels % channels:
            raise SettingError(f'ResidualUpsample: {channels} -> {next_channels} channels; {channels} must divide '
                               f'{4 * next_channels}')
        self.out_channels = next_channels
        self.repeats = 4 * next_channels // channels
        self.conv = nn.Conv2d(channels, 4 * next_channels, 3, padding=1)

    def forward(self, x):
        return F.pixel_shuffle(self.conv(x) + x.repeat_interleave(self.repeats, dim=1), 2)


def average_or_tile(x, channels):
    """(B, C, H, W) -> (B, channels, H, W): means of consecutive groups; if C is smaller, x repeated."""
    if x.shape[1] >= channels:
        return x.unflatten(1, (channels, -1)).mean(2)
    return x.repeat(1, channels // x.shape[1], 1, 1)


def _check_ratio(name, channels, next_channels):
    if channels % next_channels and next_channels % channels:
        raise SettingError(f'{name}: its shortcut takes {channels} channels to {next_channels}; one must divide the '
                           'other')
