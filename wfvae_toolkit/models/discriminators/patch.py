"""PatchGAN discriminators, at one scale (Isola et al. 2017, arXiv 1611.07004) and several (Wang et al. 2018)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm

from wfvae_toolkit.registry import DISCRIMINATORS
from wfvae_toolkit.utils.errors import SettingError

from ..posterior import at_least_float32

NORMS = {
    'spectral': nn.Identity,
    'none': nn.Identity,
    'batch': nn.BatchNorm2d,
    'instance': lambda channels: nn.InstanceNorm2d(channels, affine=True),
}


@DISCRIMINATORS.register_module()
class PatchDiscriminator(nn.Module):
    """(B, 3, H, W) -> (B, 1, h, w) patch scores; every conv 4x4.

    ``num_layers`` convs of stride 2 (width doubling up to ``max_width``), one of stride 1, one to the score,
    LeakyReLU 0.2 between.

    Spectral norm (Miyato et al. 2018, arXiv 1802.05957) is applied to every conv. Each forward pass in training mode
    makes one step of the power iteration and computes v from u first. torch.nn.utils.parametrizations computes u from v
    first; with that order, weights trained here give scores up to 8 % different. The other norms follow the convs
    between the first one and the score. A conv before batch norm has no bias.

    Args:
        num_layers (int): convs of stride 2, at least 1.
        width (int): channels of the first one.
        norm (str): 'spectral', 'batch' (synchronised over ranks on GPUs), 'instance' (affine) or 'none'.
        padding (int): of every conv.
        max_width (int): None: eight times ``width``.
    """

    def __init__(self, num_layers=4, width=64, norm='spectral', padding=1, max_width=None):
        super().__init__()
        if num_layers < 1 or width < 1:
            raise SettingError(f'num_layers={num_layers}, width={width}: both must be at least 1')
        if norm not in NORMS:
            raise SettingError(f'norm={norm!r}: use one of {", ".join(NORMS)}')
        widths = [3, *(min(width * 2**i, max_width or 8 * width) for i in range(num_layers + 1))]
        strides = [2] * num_layers + [1]
        last = len(strides) - 1
        self.convs = nn.ModuleList(
            wrapped(_conv(before, after, stride, padding, bias=i == 0 or norm != 'batch'), norm)
            for i, ((before, after), stride) in enumerate(zip(pairwise(widths), strides, strict=True)))
        self.norms = nn.ModuleList(NORMS[norm](widths[i + 1]) if i else nn.Identity() for i in range(last + 1))
        self.score = wrapped(_conv(widths[-1], 1, 1, padding), norm)
        self.activation = nn.LeakyReLU(0.2)
        self.smallest_image = _smallest_image(num_layers, padding)
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """SettingError for images that are too small for the number of layers."""
        return self.features(images)[-1]

    def features(self, images):
        """(B, 3, H, W) -> output of every layer, the scores last."""
        if min(images.shape[-2:]) < self.smallest_image:
            raise SettingError(f'{images.shape[-1]}x{images.shape[-2]} px is too small for num_layers='
                               f'{len(self.convs) - 1}: use at least {self.smallest_image} px or fewer layers')
        h = images.contiguous(memory_format=torch.channels_last)
        outputs = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = self.activation(norm(conv(h)))
            outputs.append(h)
        return [*outputs, at_least_float32(self.score(h))]


@DISCRIMINATORS.register_module()
class MultiScaleDiscriminator(nn.Module):
    """(B, 3, H, W) -> one score map per scale, full resolution first (pix2pixHD, arXiv 1711.11585, section 3.2).

    Each further PatchGAN sees the image average-pooled once more (3x3, stride 2, padding not counted).

    Args:
        scales (int): how many.
        num_layers, width, norm, padding, max_width: of each PatchDiscriminator.
    """

    def __init__(self, scales=3, num_layers=3, width=64, norm='spectral', padding=2, max_width=512):
        super().__init__()
        if scales < 1:
            raise SettingError(f'scales={scales}: use at least 1')
        self.scales = nn.ModuleList(PatchDiscriminator(num_layers, width, norm, padding, max_width)
                                    for _ in range(scales))

    def forward(self, images):
        return [features[-1] for features in self.features(images)]

    def features(self, images):
        """(B, 3, H, W) -> for every scale the output of every layer, the scores last."""
        outputs = []
        for number, discriminator in enumerate(self.scales):
            if number:
                images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(discriminator.features(images))
        return outputs


def score_maps(scores):
    """Output of a discriminator, one map or a list of maps -> list with one map per scale."""
    return list(scores) if isinstance(scores, (list, tuple)) else [scores]


def wrapped(conv, norm):
    """The conv, with spectral norm if that is the norm."""
    return spectral_norm(conv) if norm == 'spectral' else conv


def _conv(before, after, stride, padding, bias=True):
    conv = nn.Conv2d(before, after, 4, stride=stride, padding=padding, bias=bias)
    nn.init.normal_(conv.weight, 0.0, 0.02)
    return conv


def _smallest_image(num_layers, padding):
    """Smallest edge in px that gives a score: the padded input of each conv must hold its kernel of 4."""
    size = 1
    for stride in [1, 1] + [2] * num_layers:
        size = max(1, (size - 1) * stride + 4 - 2 * padding)
    return size
