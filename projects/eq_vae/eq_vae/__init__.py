"""Equivariance of the latents under scaling and rotation: importing it registers ``EquivarianceLoss``."""

from .loss import EquivarianceLoss
from .transforms import Transform, draw_transform

__all__ = ['EquivarianceLoss', 'Transform', 'draw_transform']
