"""Normalisation of (B, C, H, W) features. All compute in float32 inside and return the input's dtype."""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import NORM_LAYERS
from wfvae_toolkit.utils.errors import SettingError, is_number


def without_autocast(x):
    """Context that switches autocast off; on the meta device there is no autocast."""
    return contextlib.nullcontext() if x.device.type == 'meta' else torch.autocast(x.device.type, enabled=False)


class _ChannelNorm(nn.Module):
    """Normalises over the channels of each pixel separately, so a tile gives the same result as the whole image."""

    receptive_halo = 0

    def __init__(self, channels, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def extra_repr(self):
        return f'{len(self.weight)}, eps={self.eps}'


@NORM_LAYERS.register_module()
class LayerNorm2d(_ChannelNorm):
    """Layer norm over channels at every pixel (Ba et al. 2016, arXiv 1607.06450), affine."""

    def __init__(self, channels, eps=1e-6):
        super().__init__(channels, eps)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        # Autocast would widen the result to float32 and keep it for backward; the kernel's own
        # accumulation is float32 already. permute is a view of a channels-last tensor: no copy.
        with without_autocast(x):
            pixels = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight.to(x.dtype),
                                  self.bias.to(x.dtype), self.eps)
        return pixels.permute(0, 3, 1, 2)


@NORM_LAYERS.register_module()
class RMSNorm2d(_ChannelNorm):
    """Root-mean-square norm over channels at every pixel (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    def forward(self, x):
        with without_autocast(x):
            pixels = F.rms_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight.to(x.dtype), self.eps)
        return pixels.permute(0, 3, 1, 2)


@NORM_LAYERS.register_module()
class GroupNorm(nn.GroupNorm):
    """Group norm (Wu and He 2018, arXiv 1803.08494); its statistics span the whole image.

    Raises:
        SettingError: ``groups`` does not divide ``channels``.
    """

    def __init__(self, channels, groups=32, eps=1e-6):
        if not is_number(groups, 1, whole=True) or channels % groups:
            raise SettingError(f'GroupNorm: {groups} groups do not divide {channels} channels; use widths that are '
                               f'multiples of {groups}, or other groups= (LayerNorm2d takes any width)')
        super().__init__(groups, channels, eps)

    def forward(self, x):
        if torch.is_grad_enabled() and not x.requires_grad:
            # torch 2.13 on a CPU: the backward of a channels-last group norm without its input's gradient crashes.
            x = x.detach().requires_grad_()
        with without_autocast(x):
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
