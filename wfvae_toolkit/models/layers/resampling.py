"""Halving and doubling of feature maps."""

import torch.nn.functional as F
from torch import nn


class StridedDownsample(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2): zero-pad right and bottom by 1, 3x3 conv with stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class NearestUpsample(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): nearest neighbour, 3x3 conv."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode='nearest'))
