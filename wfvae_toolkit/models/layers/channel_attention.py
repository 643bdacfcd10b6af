"""Weights for channels from the whole image."""

import math

import torch
from torch import nn

from wfvae_toolkit.registry import CHANNEL_ATTENTIONS


@CHANNEL_ATTENTIONS.register_module()
class ECA(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): each channel times a factor in (0, 1) from the means of it and its neighbours.

    Efficient channel attention (Wang et al. 2020, arXiv 1910.03151): global average, 1-D conv across channels without
    bias, sigmoid.
    """

    def __init__(self, channels):
        super().__init__()
        kernel = kernel_size(channels)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        means = x.mean((2, 3))
        return x * torch.sigmoid(self.conv(means[:, None])[:, 0])[:, :, None, None]


def kernel_size(channels):
    """Odd, at least 3: int(|(log2 C + 1) / 2|), plus one if that is even (equation 12 with gamma 2, b 1)."""
    taps = int(abs((math.log2(channels) + 1) / 2))
    return max(3, taps if taps % 2 else taps + 1)
