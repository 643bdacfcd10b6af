"""A pixel loss of its own package: importing it registers ``CharbonnierLoss``."""

from .loss import CharbonnierLoss

__all__ = ['CharbonnierLoss']
