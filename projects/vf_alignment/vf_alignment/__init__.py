"""Latents aligned with the features of a frozen network: importing it registers ``VFAlignmentLoss``."""

from .loss import VFAlignmentLoss, cosine_gap, matrix_gap

__all__ = ['VFAlignmentLoss', 'cosine_gap', 'matrix_gap']
