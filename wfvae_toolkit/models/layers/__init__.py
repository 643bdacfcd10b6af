"""Building blocks: norms, residual and attention blocks, resampling.

NORM_LAYERS and CHANNEL_ATTENTIONS parts take ``channels``; MID_BLOCKS parts take ``channels`` and ``norm`` (a
NORM_LAYERS config); DOWNSAMPLERS and UPSAMPLERS parts take ``channels`` and ``next_channels``. All but MID_BLOCKS may
declare a ``receptive_halo`` (``halo_of`` in ``models/tiling.py``); without one, tiling is approximate.
"""

from .attention import SpatialAttention
from .channel_attention import ECA
from .norms import GroupNorm, LayerNorm2d, RMSNorm2d
from .resampling import NearestUpsample, ResidualDownsample, ResidualUpsample, StridedDownsample
from .residual import ResidualBlock

__all__ = ['ECA', 'GroupNorm', 'LayerNorm2d', 'NearestUpsample', 'RMSNorm2d', 'ResidualBlock', 'ResidualDownsample',
           'ResidualUpsample', 'SpatialAttention', 'StridedDownsample']
