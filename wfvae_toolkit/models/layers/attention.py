"""Self-attention over all positions of a feature map, or in windows where those are too many."""

import math

import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import MID_BLOCKS, NORM_LAYERS

from ..tiling import Canvas, Piece, crop, cut


@MID_BLOCKS.register_module()
class SpatialAttention(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): one head of width C over all H*W positions, scale C^-0.5, residual.

    Uses fused attention, so the (H*W)^2 matrix (1 GiB in float32 at 16,384 positions) never exists.
    """

    # Time grows with the square of the positions: see Tiling.attention_window.
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


def run_mid(blocks, h, tiling):
    """Mid blocks on the whole latent (B, C, h, w); those that say ``attends_everywhere`` in windows if need be."""
    height, width = h.shape[-2:]
    window = None if tiling is None else tiling.attention_window
    for block in blocks:
        if window is None or height * width <= window or not getattr(block, 'attends_everywhere', False):
            h = block(h)
            continue
        tiling.warn_once(f'attention over {height}x{width} latent positions is approximate: it runs in blended windows '
                         f'of at most {window}; enable_tiling(attention_window=None) attends to all at once')
        canvas = Canvas(height, width)
        for rows, columns in attention_windows(height, width, window):
            canvas.paste(block(crop(h, (rows.span, columns.span))), rows, columns)
        h = canvas.result
    return h


def attention_windows(height, width, positions):
    """Overlapping pairs of Pieces, rows and columns, each of at most ``positions``, about square where they can be."""
    edge = math.isqrt(positions)
    across = min(width, positions // min(height, edge))
    down = min(height, positions // across)
    grid = [[Piece(0, size)] if size <= edge else cut(size, edge * 3 // 4, edge // 8)
            for size, edge in ((height, down), (width, across))]
    return [(rows, columns) for rows in grid[0] for columns in grid[1]]
