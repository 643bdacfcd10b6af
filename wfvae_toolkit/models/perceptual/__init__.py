"""Perceptual distances: LPIPS, and STLPIPS, whose weights all come with an installed package."""

from .lpips import LPIPS
from .stlpips import STLPIPS
from .weights import PerceptualWeightsMissing

__all__ = ['LPIPS', 'STLPIPS', 'PerceptualWeightsMissing']
