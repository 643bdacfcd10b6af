"""Discriminator on the features of a frozen network (Sauer et al. 2023, StyleGAN-T, arXiv 2301.09515, section 3.2)."""

import math

from torch import nn

from wfvae_toolkit.registry import DISCRIMINATORS
from wfvae_toolkit.utils.errors import SettingError, is_number

from ..perceptual.features import load_maps
from ..posterior import at_least_float32
from .patch import NORMS, wrapped

_DEFAULT_LAYERS = 4


@DISCRIMINATORS.register_module()
class FeatureDiscriminator(nn.Module):
    """(B, 3, H, W) -> one score map (B, 1, h, w) per chosen feature map of a frozen network, the earliest first.

    Each map has a head: a 1x1 conv to ``width`` channels, a residual 3x3 conv, a 1x1 conv to the score. Only the heads
    train. The frozen network enters no checkpoint and no optimizer, and gives gradients to the images.

    After StyleGAN-T's discriminator on DINO (four of twelve blocks), as RAE (arXiv 2510.11690) uses it. There the
    residual conv is one over the sequence of tokens, and the heads have spectral norm and batch norm together. Here the
    norm is one of `PatchDiscriminator`'s; spectral norm keeps the score of an image independent of the others.

    Args:
        features (str): network with feature maps, see ``models.perceptual.features``: 'dinov2', 'stlpips-vgg',
            'stlpips-alex' or the dotted path of a class.
        weights (str): its file or folder of weights.
        layers (tuple[int]): which maps; None: four of them, evenly spaced, the last one among them.
        width (int): channels of a head.
        norm (str): 'spectral', 'batch', 'instance' or 'none'.

    Raises:
        MissingLibrary, PerceptualWeightsMissing: see ``load_maps``.
        SettingError: settings that are not there.
    """

    def __init__(self, features='stlpips-vgg', weights: str | None = None, layers=None, width=64, norm='spectral'):
        super().__init__()
        if not is_number(width, 1, whole=True) or norm not in NORMS:
            raise SettingError(f'width={width!r}, norm={norm!r}: a whole number from 1, and one of {", ".join(NORMS)}')
        self.features_network = load_maps(features, weights)
        self.source = self.features_network.source  # a resumed run notices other weights
        self.layers = _layers(layers, len(self.features_network.map_widths), features)
        self.heads = nn.ModuleList(_Head(self.features_network.map_widths[layer], width, norm) for layer in self.layers)

    def forward(self, images):
        """SettingError for images that are too small for the frozen network."""
        return [outputs[-1] for outputs in self.features(images)]

    def features(self, images):
        """(B, 3, H, W) -> for every chosen map the outputs of its head's layers, the scores last."""
        maps = self.features_network.maps(images)
        return [head(maps[layer]) for head, layer in zip(self.heads, self.layers, strict=True)]


class _Head(nn.Module):
    def __init__(self, channels, width, norm):
        super().__init__()
        self.project, self.mix, self.score = (
            wrapped(nn.Conv2d(before, after, kernel, padding=kernel // 2), norm)
            for before, after, kernel in ((channels, width, 1), (width, width, 3), (width, 1, 1)))
        self.norms = nn.ModuleList(NORMS[norm](width) for _ in range(2))
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, features):
        first = self.activation(self.norms[0](self.project(features)))
        second = (first + self.activation(self.norms[1](self.mix(first)))) / math.sqrt(2)
        return [first, second, at_least_float32(self.score(second))]


def _layers(layers, count, features):
    if layers is None:
        share = min(_DEFAULT_LAYERS, count)
        return tuple((number + 1) * count // share - 1 for number in range(share))
    layers = tuple(layers)
    if not layers or not all(is_number(layer, -count, whole=True) and layer < count for layer in layers):
        raise SettingError(f'layers={layers}: {features} has maps 0 to {count - 1}; None takes four of them')
    return layers


def batch_norms(network):
    """Batch norms of a discriminator that see its batch: not those of a frozen network inside it."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and 'running_mean' not in module._non_persistent_buffers_set]


def synchronise_batch_norms(network):
    """Replace the batch norms below ``network`` by those with statistics over all ranks, frozen ones left alone."""
    ours = batch_norms(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if any(child is norm for norm in ours):
                setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
