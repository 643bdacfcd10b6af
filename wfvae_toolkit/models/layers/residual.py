"""Residual block: norm, SiLU, 3x3 conv, norm, SiLU, dropout, 3x3 conv (, channel attention), plus the input."""

import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import CHANNEL_ATTENTIONS, MID_BLOCKS, NORM_LAYERS

from ..tiling import halo_of
from .recompute import norm_act_conv


@MID_BLOCKS.register_module()
class ResidualBlock(nn.Module):
    """(B, channels, H, W) -> (B, out_channels, H, W); a 1x1 conv on the skip when they differ.

    Args:
        channels (int): channels that come in.
        norm (dict): NORM_LAYERS config.
        out_channels (int): channels that go out; None keeps them.
        dropout (float): probability before the second conv.
        channel_attention (dict): CHANNEL_ATTENTIONS config, at the end of the branch; None: none.
    """

    def __init__(self, channels, norm, out_channels=None, dropout=0.0, channel_attention=None):
        super().__init__()
        out_channels = out_channels or channels
        self.norm1 = NORM_LAYERS.build(norm, channels=channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = NORM_LAYERS.build(norm, channels=out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.attention = (nn.Identity() if channel_attention is None
                          else CHANNEL_ATTENTIONS.build(channel_attention, channels=out_channels))
        self.shortcut = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    @property
    def receptive_halo(self):
        return halo_of(self.norm1, self.conv1, self.norm2, self.conv2, self.attention)

    def forward(self, x):
        h = norm_act_conv(self.norm1, self.conv1, x)
        if self.training and self.dropout.p:
            h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        else:
            h = norm_act_conv(self.norm2, self.conv2, h)
        h, skip = self.attention(h), self.shortcut(x)
        # The backward of a convolution does not need its output, so the sum may overwrite it.
        return h.add_(skip) if h.dtype == skip.dtype else h + skip
