"""Trained models at work: pictures to latents and back, evaluation of checkpoints."""

from .reconstructor import Reconstructor

__all__ = ['Reconstructor']
