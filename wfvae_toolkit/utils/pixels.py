"""Pixels as files hold them, uint8 in 0..255, and as networks take them, float32 in [-1, 1].

Every conversion between the two is here: level v is v / 127.5 - 1.
"""

import torch

from .errors import SettingError


def from_bytes(pixels):
    """uint8 tensor of any shape -> float32 in [-1, 1], on the same device.

    Raises:
        SettingError: another dtype, which may already be scaled.
    """
    if pixels.dtype != torch.uint8:
        raise SettingError(f'pixels of {pixels.dtype}: uint8 in 0..255 is needed')
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)


def to_levels(images):
    """[-1, 1] -> levels 0..255, neither clipped nor rounded."""
    return (images + 1.0) * 127.5


def to_bytes(images):
    """[-1, 1] -> uint8, clipped and rounded to the nearest level."""
    return images.clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)
