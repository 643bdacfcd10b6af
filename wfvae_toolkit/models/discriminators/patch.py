"""PatchGAN discriminator (Isola et al. 2017, arXiv 1611.07004)."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import spectral_norm

from wfvae_toolkit.registry import DISCRIMINATORS


@DISCRIMINATORS.register_module()
class PatchDiscriminator(nn.Module):
    """(B, 3, H, W) -> (B, 1, h, w) patch scores; every conv 4x4 and spectrally normalised.

    ``num_layers`` convs of stride 2 (width doubling up to 8x), one of stride 1, one to the score,
    LeakyReLU 0.2 between. Each forward in training mode advances the power iteration by one step
    (Miyato et al. 2018, arXiv 1802.05957), v from u first: torch.nn.utils.parametrizations starts with
    u from v, and weights trained the one way score up to 8 % differently the other way.

    Args:
        num_layers (int): convs of stride 2, at least 1.
        width (int): channels of the first one.
    """

    def __init__(self, num_layers=4, width=64):
        super().__init__()
        if num_layers < 1 or width < 1:
            raise ValueError(f'num_layers={num_layers}, width={width}: both must be at least 1')
        widths = [3, *(width * min(2**i, 8) for i in range(num_layers + 1))]
        strides = [2] * num_layers + [1]
        self.convs = nn.ModuleList(
            spectral_norm(_conv(before, after, stride))
            for (before, after), stride in zip(pairwise(widths), strides, strict=True))
        self.score = spectral_norm(_conv(widths[-1], 1, stride=1))
        self.activation = nn.LeakyReLU(0.2)
        self.smallest_image = _smallest_image(num_layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """Raises ValueError for images that shrink to nothing on the way."""
        if min(images.shape[-2:]) < self.smallest_image:
            raise ValueError(f'{images.shape[-1]}x{images.shape[-2]} px is too small for num_layers='
                             f'{len(self.convs) - 1}: use at least {self.smallest_image} px or fewer layers')
        h = images.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            h = self.activation(conv(h))
        return self.score(h).float()


def _conv(before, after, stride):
    conv = nn.Conv2d(before, after, 4, stride=stride, padding=1)
    nn.init.normal_(conv.weight, 0.0, 0.02)
    return conv


def _smallest_image(num_layers):
    """Edge in px that leaves one score: two convs of stride 1 take a pixel each, the others halve."""
    return 3 * 2**num_layers
