"""What LPIPS and STLPIPS share: a frozen trunk of five stages and the distance between its features."""

import re

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from wfvae_toolkit.utils.errors import SettingError

# Five stages of (channels, kernel) convolutions, each followed by a ReLU; a stage's output is a feature map.
_POOL = 'pool'
_STAGES = {
    'alex': [[(64, 11)], [_POOL, (192, 5)], [_POOL, (384, 3)], [(256, 3)], [(256, 3)]],
    'vgg': [[(64, 3)] * 2, [_POOL, *[(128, 3)] * 2], *([_POOL, *[(width, 3)] * 3] for width in (256, 512, 512))],
}
_POOL_SIZE = {'alex': 3, 'vgg': 2}


class PerceptualNetwork(nn.Module):
    """Weighted squared differences of unit-length features, one number per image (not spatial).

    Equation 1 of Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (2018).
    Always frozen and in eval mode. Convolutions run under the autocast that is active, the distances in float32.

    Args:
        net (str): 'alex' or 'vgg'.
        shift_tolerant (bool): every stride becomes a blur before a stride of 2 (Ghildyal and Liu 2022).
        min_size (int): smallest height and width in pixels that the trunk takes.
    """

    def __init__(self, net, shift_tolerant, min_size):
        super().__init__()
        self.net = net
        self.min_size = min_size
        self.register_buffer('shift', torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('scale', torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        self.stages = nn.ModuleList()
        self.heads = nn.ParameterList()
        channels = 3
        for stage in _STAGES[net]:
            layers = []
            for layer in stage:
                if layer == _POOL:
                    layers += _pool(_POOL_SIZE[net], channels, shift_tolerant)
                else:
                    layers += _convolution(channels, *layer, shift_tolerant)
                    channels = layer[0]
            self.stages.append(nn.Sequential(*layers))
            self.heads.append(torch.empty(channels))
        self.requires_grad_(False)
        self.eval()
        # The layout of the weights decides that of a convolution's output; this one is faster for images of any layout.
        self.to(memory_format=torch.channels_last)

    def train(self, mode=True):
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, reconstruction, target):
        """Two (B, 3, H, W) in [-1, 1] -> (B,) distances, differentiable in the reconstruction.

        Raises:
            SettingError: the shapes differ, are not colour images, or are below the trunk's smallest size.
        """
        self._check(reconstruction, target)
        distance = 0
        pairs = zip(self._features(reconstruction), self._features(target.detach()), strict=True)
        for head, (ours, theirs) in zip(self.heads, pairs, strict=True):
            distance = distance + (_unit(ours).sub_(_unit(theirs)).square().mean((2, 3)) * head).sum(1)
        return distance

    def load(self, state, trunk_prefix, source):
        """Copy a trunk's convolutions, in the order of their numbers, from ``<trunk_prefix>.<number>.weight``."""
        pattern = re.compile(rf'({trunk_prefix}\.(\d+))\.weight')
        found = sorted((int(match[2]), match[1]) for match in map(pattern.fullmatch, state) if match)
        convolutions = [module for module in self.stages.modules() if isinstance(module, nn.Conv2d)]
        if [state[f'{name}.weight'].shape for _, name in found] != [conv.weight.shape for conv in convolutions]:
            raise SettingError(f'{source} does not hold the weights of {type(self).__name__} net={self.net!r}')
        for (_, name), convolution in zip(found, convolutions, strict=True):
            convolution.weight.copy_(state[f'{name}.weight'])
            convolution.bias.copy_(state[f'{name}.bias'])

    def load_heads(self, state):
        """Copy one weight per channel from ``lin<stage>.model.1.weight``, the name in both packages' files."""
        for index, head in enumerate(self.heads):
            head.copy_(state[f'lin{index}.model.1.weight'].flatten())

    def _features(self, image):
        x = (image.to(torch.promote_types(image.dtype, torch.float32)) - self.shift).div_(self.scale)
        for stage in self.stages:
            x = stage(x)
            yield x

    def _check(self, reconstruction, target):
        if reconstruction.shape != target.shape or target.dim() != 4 or target.shape[1] != 3:
            raise SettingError(f'reconstruction {tuple(reconstruction.shape)} and target {tuple(target.shape)}: '
                               'expected two (B, 3, H, W) of one shape')
        if min(target.shape[2:]) < self.min_size:
            raise SettingError(f'{target.shape[2]}x{target.shape[3]} px: {type(self).__name__} net={self.net!r} takes '
                               f'images of at least {self.min_size}x{self.min_size} px')


class Blur(nn.Module):
    """(B, C, H, W) -> (B, C, H/2 + 1, W/2 + 1): binomial 3x3 filter at a stride of 2, two reflected pixels a side."""

    def __init__(self, channels):
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer('kernel', torch.outer(taps, taps).expand(channels, 1, 3, 3).contiguous(), persistent=False)

    def forward(self, x):
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode='reflect'), self.kernel, stride=2, groups=len(self.kernel))


def check_net(net):
    """SettingError unless ``net`` names a trunk."""
    if net not in _STAGES:
        raise SettingError(f'net={net!r}: use one of {", ".join(map(repr, _STAGES))}')


def _convolution(in_channels, channels, kernel, shift_tolerant):
    is_stem = kernel == 11  # AlexNet's first, the only one with a stride and with less padding than half its kernel
    stride = 4 if is_stem and not shift_tolerant else 1
    # skip_init draws no random numbers: building a metric must not change the random numbers of a training run.
    convolution = nn.utils.skip_init(nn.Conv2d, in_channels, channels, kernel, stride, padding=min(kernel // 2, 2))
    return [convolution, *([Blur(channels)] if is_stem and shift_tolerant else []), nn.ReLU(inplace=True)]


def _pool(size, channels, shift_tolerant):
    if shift_tolerant:
        return [_Recomputed(nn.MaxPool2d(size, stride=1), Blur(channels))]
    return [nn.MaxPool2d(size, stride=2)]


class _Recomputed(nn.Sequential):
    """Keeps only its input for backward. A pool of stride 1 would keep indices of twice the bytes, a blur two maps."""

    def forward(self, x):
        if torch.is_grad_enabled() and x.requires_grad:
            return checkpoint(super().forward, x, use_reentrant=False, preserve_rng_state=False)
        return super().forward(x)


def _unit(features):
    """Scale to length 1 over channels, in float32 or wider; a zero vector stays 0 with a finite gradient."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)
