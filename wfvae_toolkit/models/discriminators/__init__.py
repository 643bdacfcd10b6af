"""Discriminators: images (B, 3, H, W) -> patch scores (B, 1, h, w), higher for real, or one map per scale."""

from .augmentation import AugmentedDiscriminator, DiffAugment
from .patch import MultiScaleDiscriminator, PatchDiscriminator, score_maps

__all__ = ['AugmentedDiscriminator', 'DiffAugment', 'MultiScaleDiscriminator', 'PatchDiscriminator', 'score_maps']
