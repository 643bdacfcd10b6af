"""Self-attention over all positions of a feature map."""

import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import MID_BLOCKS, NORM_LAYERS


@MID_BLOCKS.register_module()
class SpatialAttention(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): one head of width C over all H*W positions, scale C^-0.5, residual.

    Uses fused attention, so the (H*W)^2 matrix (1 GiB in float32 at 16,384 positions) never exists.
    """

    # Time grows with the square of the positions, so tiling may run this block in windows (Tiling.attention_window).
    attends_everywhere = True

    def __init__(self, channels, norm):
        super().__init__()
        self.norm = NORM_LAYERS.build(norm, channels=channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        h = self.norm(x)
        heads = [_positions(project(h)) for project in (self.query, self.key, self.value)]
        mixed = F.scaled_dot_product_attention(*heads)  # default scale: C^-0.5
        return x + self.out(mixed[:, 0].transpose(1, 2).reshape(x.shape))


def _positions(x):
    """(B, C, H, W) -> (B, 1, H*W, C); a view of a channels-last tensor."""
    return x.flatten(2).transpose(1, 2)[:, None]
