"""The best linear code of blocks: a yardstick for an autoencoder, and weights from which its training can start."""

import random

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.evaluation.psnr import psnr
from wfvae_toolkit.models.autoencoders.wfvae2 import WFVAE2Image, add_low
from wfvae_toolkit.models.layers import ResidualBlock, SpatialAttention, StridedDownsample
from wfvae_toolkit.registry import DATASETS
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.pixels import from_bytes, to_bytes

LOGVAR = -8.0  # of a fresh start: noise of 2 % of a latent's standard deviation
RIDGE = 1e-3  # added to each feature's mean square, in units of the features' average one


class LinearCode:
    """Principal components of blocks of ``size`` x ``size`` pixels, all colours together.

    Args:
        images (Tensor): (N, C, H, W) to which the components are fitted; ``size`` divides H and W.
        components (int): values a block.
        size (int): pixels.
    """

    def __init__(self, images, components, size):
        self.size = size
        self.mean, self.directions, self.std = principal_components(F.pixel_unshuffle(images, size), components)

    def encode(self, images):
        """(B, C, H, W) -> (B, components, H/size, W/size); of the fitted images they have mean 0 and variance 1."""
        blocks = F.pixel_unshuffle(images, self.size) - self.mean[:, None, None]
        return torch.einsum('kc,bchw->bkhw', self.directions / self.std[:, None], blocks)

    def decode(self, codes):
        """(B, components, h, w) -> (B, C, size*h, size*w)."""
        blocks = torch.einsum('kc,bkhw->bchw', self.directions * self.std[:, None], codes)
        return F.pixel_shuffle(blocks + self.mean[:, None, None], self.size)


def draw_pictures(dataset, count=None, seed=0):
    """Pictures of a DATASETS config, all or ``count`` drawn ones; (N, 3, H, W) in [-1, 1]."""
    dataset = DATASETS.build(dataset)
    indices = range(len(dataset))
    if count is not None:
        indices = sorted(random.Random(seed).sample(indices, min(count, len(dataset))))
    return from_bytes(torch.stack([dataset[index].image for index in indices]))


@torch.no_grad()
def score(reconstruct, images):
    """Mean PSNR in dB of (N, 3, H, W) in [-1, 1], one picture at a time, rounded to 8 bits as in evaluation."""
    ours = torch.cat([to_bytes(reconstruct(image[None])) for image in images])
    return psnr(ours / 255, to_bytes(images) / 255).mean().item()


def principal_components(features, count):
    """(N, C, H, W) -> mean (C,), directions (count, C) and standard deviations (count,), the largest first."""
    rows = features.transpose(0, 1).flatten(1).double()
    mean = rows.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(rows))
    directions, std = vectors.T.flip(0)[:count], values.flip(0)[:count].clamp(min=1e-12).sqrt()
    return mean.to(features), directions.to(features), std.to(features)


@torch.no_grad()
def start_from_linear_code(autoencoder, images):
    """Set the weights of a WFVAE2Image so that it begins as a linear code.

    Encoder: residual branches begin at zero, so what remains is linear. Each halving keeps the principal components of
    its input's 2x2 blocks, and the first ones of the last halving are the latents. Decoder: the random weights stay;
    each convolution that gives wavelet coefficients is fitted to those of the images, from the lowest level up (ridge
    regression on its input).

    Args:
        autoencoder (WFVAE2Image): changed in place.
        images (Tensor): (N, 3, H, W) in [-1, 1]; 64 pictures of 256 px are enough.

    Raises:
        SettingError: an autoencoder without such a linear path.
    """
    _check(autoencoder)
    for module in autoencoder.modules():
        if isinstance(module, ResidualBlock):
            _set(module.conv2)
        elif isinstance(module, SpatialAttention):
            _set(module.out)
    _set(autoencoder.decoder.conv_in)  # the latent shortcut beside it remains
    latents = _start_encoder(autoencoder.encoder, images, autoencoder.latent_channels)
    _start_decoder(autoencoder.decoder, latents, autoencoder.encoder.pyramid(images))


def _check(autoencoder):
    encoder = autoencoder.encoder if isinstance(autoencoder, WFVAE2Image) else None
    if encoder is None or not (
            encoder.latent_shortcuts and isinstance(encoder.stages[-1].out_block.shortcut, nn.Conv2d)
            and all(stage.flow_in is not None and isinstance(stage.downsample, StridedDownsample)
                    for stage in encoder.stages)
            and all(isinstance(block, (ResidualBlock, SpatialAttention)) for block in encoder.mid)):
        raise SettingError('a start from a linear code needs a WFVAE2Image with latent_shortcuts=True, energy flow, '
                           'StridedDownsample, mid blocks ResidualBlock and SpatialAttention, and a last width that '
                           'differs from the width before it plus flow_width')


def _start_encoder(encoder, images, latent_channels):
    """Returns the latents of the images."""
    features = encoder.wavelet.analyze(images)
    _set_rows(encoder.conv_in, torch.eye(features.shape[1])[..., None, None], middle=1)
    for stage in encoder.stages:
        blocks = F.pixel_unshuffle(features, 2)
        mean, directions, std = principal_components(blocks, stage.downsample.out_channels)
        kernel = directions.unflatten(1, (-1, 2, 2))  # the 3x3 kernel's first rows and columns: the 2x2 block
        _set_rows(stage.downsample.conv, kernel, -directions @ mean)
        features = torch.einsum('kc,bchw->bkhw', directions, blocks - mean[:, None, None])
        if stage is not encoder.stages[-1] and isinstance(stage.out_block.shortcut, nn.Conv2d):
            features = features[:, :stage.out_block.shortcut.out_channels]
            _set_rows(stage.out_block.shortcut, torch.eye(features.shape[1])[..., None, None])
    shortcut = encoder.stages[-1].out_block.shortcut
    # The latent shortcut averages a group of channels: every channel of a group holds the latent, and pairs of
    # further components with opposite signs, which the average cancels.
    mixing = _group_mixing(shortcut.out_channels, 2 * latent_channels, len(std)) / std
    _set_rows(shortcut, mixing[..., None, None])
    _set(encoder.conv_out)
    encoder.conv_out.bias[latent_channels:] = LOGVAR
    return features[:, :latent_channels] / std[:latent_channels, None, None]


def _group_mixing(width, groups, components):
    """(width, components): which component, and with which sign, each channel of the last encoder width holds."""
    size, latents = width // groups, groups // 2
    mixing = torch.zeros(width, components)
    for channel in range(latents * size):
        mixing[channel, channel // size] = 1
    extra = latents
    for first in [start for group in range(groups) for start in range(group * size, (group + 1) * size - 1, 2)]:
        if extra == components:
            break
        mixing[first, extra], mixing[first + 1, extra] = 1, -1
        extra += 1
    return mixing


def _start_decoder(decoder, latents, pyramid):
    h = latents.repeat_interleave(decoder.conv_in.out_channels // latents.shape[1], dim=1)
    low = None
    for stage, target in zip(decoder.stages, pyramid[:0:-1], strict=True):
        flow = stage.flow_block(stage.branch(h)[:, stage.split[0]:])
        _fit(stage.flow_out, flow, target - add_low(torch.zeros_like(target), low))
        h, details = stage(h)
        low = decoder.wavelet.synthesize(add_low(details, low))
    last = decoder.activation_out(decoder.norm_out(h))
    _fit(decoder.conv_out, last, pyramid[0] - add_low(torch.zeros_like(pyramid[0]), low))


def _fit(conv, inputs, targets):
    """Weights of a 3x3 convolution (B, C, H, W) -> (B, K, H, W) by ridge regression."""
    rows = conv.in_channels * 9
    gram, moment = torch.zeros(rows + 1, rows + 1, dtype=torch.double), torch.zeros(
        rows + 1, conv.out_channels, dtype=torch.double)
    for image, target in zip(inputs, targets, strict=True):
        columns = F.unfold(image[None], 3, padding=1)[0]
        columns = torch.cat([columns, torch.ones_like(columns[:1])]).double()
        gram += columns @ columns.T
        moment += columns @ target.flatten(1).T.double()
    damping = RIDGE * gram.diagonal()[:-1].mean()
    gram[:-1, :-1] += damping * torch.eye(rows, dtype=torch.double)
    solution = torch.linalg.solve(gram, moment).T.to(conv.weight)
    conv.weight.copy_(solution[:, :-1].unflatten(1, (conv.in_channels, 3, 3)))
    conv.bias.copy_(solution[:, -1])


def _set(conv, value=0.0):
    conv.weight.fill_(value)
    conv.bias.fill_(value)


def _set_rows(conv, kernel, bias=0.0, middle=0):
    """The first outputs of a convolution read only what ``kernel`` (K, C, h, w) says; the others stay random."""
    outputs, inputs, height, width = kernel.shape
    conv.weight[:outputs] = 0
    conv.weight[:outputs, :inputs, middle:middle + height, middle:middle + width] = kernel
    conv.bias[:outputs] = bias
