"""A transformer that predicts a velocity for noised latents: DiT's blocks (Peebles and Xie 2023, arXiv 2212.09748)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.utils.errors import SettingError


class FlowTransformer(nn.Module):
    """Noised latents (B, C, h, w), times (B,) and labels (B,) -> velocities (B, C, h, w).

    Args:
        latent_shape (tuple): (C, h, w).
        classes (int): number of classes; 0: without. Label ``classes`` stands for no class.
        patch (int): edge of the square of positions that become one token.
        width (int): of a token, a multiple of 4 and of ``heads``.
        depth, heads (int): blocks, and attention heads of each.

    Raises:
        SettingError: sides that the patch, or a width that 4 or the heads do not divide.
    """

    def __init__(self, latent_shape, classes=0, patch=2, width=192, depth=6, heads=6):
        super().__init__()
        channels, height, wide = latent_shape
        if height % patch or wide % patch:
            raise SettingError(f'patch={patch}: the latents have {height}x{wide} positions; use a divisor of both')
        if width % heads or width % 4:
            raise SettingError(f'width={width}, heads={heads}: use a width that 4 and the heads divide')
        self.classes, self.patch = classes, patch
        self.read = nn.Linear(channels * patch**2, width)
        self.register_buffer('places', place_code(height // patch, wide // patch, width), persistent=False)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulate = nn.Linear(width, 2 * width)
        self.write = nn.Linear(width, channels * patch**2)
        for layer in (self.modulate, self.write):  # the first prediction is 0
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, latents, t, labels=None):
        condition = self.time(wave_code(1000 * t, self.places.shape[1]))
        if self.label is not None:
            condition = condition + self.label(torch.full_like(t, self.classes, dtype=torch.long)
                                               if labels is None else labels)
        condition = F.silu(condition)
        tokens = self.read(to_tokens(latents, self.patch)) + self.places
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulate(condition)[:, None].chunk(2, dim=2)
        return to_latents(self.write(normalized(tokens) * (1 + scale) + shift), latents.shape, self.patch)


class Block(nn.Module):
    """Attention and a feed-forward net on tokens (B, N, width), shifted, scaled and gated by a condition (B, width).

    The gates begin at 0, so that every block begins as the identity (adaLN-Zero).
    """

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU('tanh'), nn.Linear(4 * width, width))
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, tokens, condition):
        shift, scale, gate, shift_feed, scale_feed, gate_feed = self.modulate(condition)[:, None].chunk(6, dim=2)
        tokens = tokens + gate * self.attention(normalized(tokens) * (1 + scale) + shift)
        return tokens + gate_feed * self.feed(normalized(tokens) * (1 + scale_feed) + shift_feed)

    def attention(self, tokens):
        """(B, N, width) -> (B, N, width): every token looks at all."""
        split = self.attend(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.project(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


def normalized(tokens):
    """Layer norm without weights."""
    return F.layer_norm(tokens, tokens.shape[-1:])


def to_tokens(latents, patch):
    """(B, C, h, w) -> (B, N, C * patch^2), row by row."""
    return F.pixel_unshuffle(latents, patch).flatten(2).transpose(1, 2)


def to_latents(tokens, shape, patch):
    """The inverse of `to_tokens`, for latents of ``shape``."""
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (shape[2] // patch, shape[3] // patch)), patch)


def wave_code(values, width):
    """Numbers (N,) -> (N, width): cosines and sines of wavelengths from 2 pi to 20,000 pi (Vaswani et al. 2017)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) / half * torch.arange(half, device=values.device))
    angles = values[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def place_code(height, width, length):
    """(height * width, length): the code of the row beside that of the column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.cat([wave_code(axis.flatten(), length // 2) for axis in (rows, columns)], dim=1)
