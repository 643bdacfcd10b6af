"""File formats of trained models and the way back to earlier ones."""

from .earlier import convert_earlier_state

__all__ = ['convert_earlier_state']
