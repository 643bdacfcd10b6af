"""Discriminators: images (B, 3, H, W) -> patch scores (B, 1, h, w), higher for real, or one map per scale."""

from .augmentation import AugmentedDiscriminator, DiffAugment
from .features import FeatureDiscriminator
from .patch import MultiScaleDiscriminator, PatchDiscriminator, score_maps
from .unet import UNetDiscriminator

__all__ = ['AugmentedDiscriminator', 'DiffAugment', 'FeatureDiscriminator', 'MultiScaleDiscriminator',
           'PatchDiscriminator', 'UNetDiscriminator', 'score_maps']
