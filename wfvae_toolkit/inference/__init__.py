"""Trained models at work: pictures to latents and back, evaluation of checkpoints."""

from .reconstructor import Reconstructor
from .slider import ComparisonSlider

__all__ = ['ComparisonSlider', 'Reconstructor']
