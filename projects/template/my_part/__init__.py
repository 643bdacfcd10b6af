"""Importing this package registers ``MyLoss``."""

from .loss import MyLoss

__all__ = ['MyLoss']
