"""Building blocks: norms, residual and attention blocks, resampling.

NORM_LAYERS parts take ``channels``; MID_BLOCKS parts take ``channels`` and ``norm`` (a NORM_LAYERS config).
"""

from .attention import SpatialAttention
from .norms import GroupNorm, LayerNorm2d, RMSNorm2d
from .resampling import NearestUpsample, StridedDownsample
from .residual import ResidualBlock

__all__ = ['GroupNorm', 'LayerNorm2d', 'NearestUpsample', 'RMSNorm2d', 'ResidualBlock', 'SpatialAttention',
           'StridedDownsample']
