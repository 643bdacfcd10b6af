"""Discriminators: images (B, 3, H, W) -> patch scores (B, 1, h, w), higher for real."""

from .patch import PatchDiscriminator

__all__ = ['PatchDiscriminator']
