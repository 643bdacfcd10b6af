"""U-Net discriminator (Schönfeld et al. 2020, arXiv 2002.12655)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import DISCRIMINATORS
from wfvae_toolkit.utils.errors import SettingError, is_number

from ..posterior import at_least_float32
from .patch import NORMS, wrapped


@DISCRIMINATORS.register_module()
class UNetDiscriminator(nn.Module):
    """(B, 3, H, W) -> [scores of the pixels (B, 1, H, W), score of the image (B, 1, 1, 1)].

    Encoder of ``num_layers`` residual blocks, each at half the size of the one before; the mean over its last positions
    gives the image's score. The decoder goes back to full size, with the encoder's maps beside its own, and gives the
    pixels' scores. The objective of each (equations 2 and 4) has the same weight: rows take the mean over the two
    outputs, half of the paper's sum. The paper's CutMix consistency is not part of it.

    Args:
        num_layers (int): halvings, at least 1.
        width (int): channels at full size, doubled with each halving up to ``max_width``.
        norm (str): 'spectral', 'batch', 'instance' or 'none', as of PatchDiscriminator.
        max_width (int): None: eight times ``width``.

    Raises:
        SettingError: settings that are not there.
    """

    def __init__(self, num_layers=4, width=64, norm='spectral', max_width: int | None = None):
        super().__init__()
        if not is_number(num_layers, 1, whole=True) or not is_number(width, 1, whole=True) or norm not in NORMS:
            raise SettingError(f'num_layers={num_layers!r}, width={width!r}, norm={norm!r}: whole numbers from 1, and '
                               f'one of {", ".join(NORMS)}')
        widths = [min(width * 2**level, max_width or 8 * width) for level in range(num_layers + 1)]
        self.stem = _conv(3, widths[0], 3, norm)
        self.encoder = nn.ModuleList(_Block(before, after, norm) for before, after in pairwise(widths))
        self.decoder = nn.ModuleList(_Block(below + beside, beside, norm) for beside, below in pairwise(widths))[::-1]
        self.image_score = _conv(widths[-1], 1, 1, norm)
        self.pixel_score = _conv(widths[0], 1, 1, norm)
        self.activation = nn.LeakyReLU(0.2)
        self.smallest_image = 2**num_layers
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """SettingError for images that are too small for the number of halvings."""
        return [outputs[-1] for outputs in self.features(images)]

    def features(self, images):
        """(B, 3, H, W) -> outputs of the decoder's blocks, then the pixels' scores; the same of encoder and image."""
        if min(images.shape[-2:]) < self.smallest_image:
            raise SettingError(f'{images.shape[-1]}x{images.shape[-2]} px is too small for num_layers='
                               f'{len(self.encoder)}: use at least {self.smallest_image} px or fewer layers')
        down = [self.stem(images.contiguous(memory_format=torch.channels_last))]
        for block in self.encoder:
            down.append(F.avg_pool2d(block(down[-1]), 2))
        up = [down[-1]]
        for block, beside in zip(self.decoder, down[-2::-1], strict=True):
            up.append(block(torch.cat([F.interpolate(up[-1], size=beside.shape[-2:]), beside], dim=1)))
        image = self.image_score(self.activation(down[-1]).mean((2, 3), keepdim=True))
        pixels = self.pixel_score(self.activation(up[-1]))
        return [[*up[1:], at_least_float32(pixels)], [*down, at_least_float32(image)]]


class _Block(nn.Module):
    """(B, C, h, w) -> (B, C', h, w): two 3x3 convs after their activations, and a 1x1 conv around them."""

    def __init__(self, before, after, norm):
        super().__init__()
        self.convs = nn.ModuleList([_conv(before, after, 3, norm), _conv(after, after, 3, norm)])
        self.norms = nn.ModuleList(NORMS[norm](after) for _ in range(2))
        self.shortcut = _conv(before, after, 1, norm)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x):
        h = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = norm(conv(self.activation(h)))
        return h + self.shortcut(x)


def _conv(before, after, kernel, norm):
    conv = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    nn.init.orthogonal_(conv.weight)
    return wrapped(conv, norm)
