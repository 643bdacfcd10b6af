"""Perceptual distances: LPIPS, and STLPIPS whose weights are all in an installed wheel."""

from .lpips import LPIPS
from .stlpips import STLPIPS
from .weights import PerceptualWeightsMissing

__all__ = ['LPIPS', 'STLPIPS', 'PerceptualWeightsMissing']
