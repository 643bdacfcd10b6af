"""Scaling and quarter turns of images and latents alike."""

from typing import NamedTuple

import torch
import torch.nn.functional as F


class Transform(NamedTuple):
    """Scale height and width, then turn counter-clockwise."""

    height_scale: float
    width_scale: float
    quarter_turns: int

    def latent_size(self, height, width):
        """Latent positions (h, w) before the turn: whole ones, at least one."""
        return max(1, round(height * self.height_scale)), max(1, round(width * self.width_scale))

    def __call__(self, x, size):
        """(B, C, H, W) -> (B, C, *size), turned; bilinear with an antialiasing filter."""
        if x.shape[2:] != torch.Size(size):
            x = F.interpolate(x, size=size, mode='bilinear', antialias=True)
        return torch.rot90(x, self.quarter_turns, dims=(2, 3))


def draw_transform(generator, probability=0.5, smallest=0.25, isotropic=False, largest=1.0, turns=True):
    """A random Transform, or None with 1 - ``probability``.

    Scales are uniform in [``smallest``, ``largest``], one for both sides if ``isotropic``; each quarter turn is as
    likely, and without ``turns`` there is none. Always four draws: what follows from the generator does not depend on
    the outcome.
    """
    chosen, height, width, turn = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    if chosen >= probability:
        return None
    height_scale, width_scale = (smallest + (largest - smallest) * share for share in (height, width))
    return Transform(height_scale, height_scale if isotropic else width_scale, int(4 * turn) if turns else 0)
