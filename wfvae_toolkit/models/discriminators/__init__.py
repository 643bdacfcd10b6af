"""Discriminators: images (B, 3, H, W) -> patch scores (B, 1, h, w), higher for real, or one map per scale."""

from .augmentation import AugmentedDiscriminator, DiffAugment
from .features import FeatureDiscriminator, batch_norms, synchronise_batch_norms
from .patch import MultiScaleDiscriminator, PatchDiscriminator, score_maps
from .unet import UNetDiscriminator

__all__ = ['AugmentedDiscriminator', 'DiffAugment', 'FeatureDiscriminator', 'MultiScaleDiscriminator',
           'PatchDiscriminator', 'UNetDiscriminator', 'batch_norms', 'score_maps', 'synchronise_batch_norms']
