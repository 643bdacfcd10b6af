"""Building blocks: norms, residual and attention blocks, resampling.

``wfvae_toolkit/registry.py`` lists, per registry, the arguments that the owner passes to a part (``channels``,
``norm``, ...). All parts except MID_BLOCKS may declare a ``receptive_halo`` (``halo_of`` in ``models/tiling.py``);
without one, tiling is approximate.
"""

from .attention import SpatialAttention
from .channel_attention import ECA
from .norms import GroupNorm, LayerNorm2d, RMSNorm2d
from .resampling import NearestUpsample, ResidualDownsample, ResidualUpsample, StridedDownsample
from .residual import ResidualBlock

__all__ = ['ECA', 'GroupNorm', 'LayerNorm2d', 'NearestUpsample', 'RMSNorm2d', 'ResidualBlock', 'ResidualDownsample',
           'ResidualUpsample', 'SpatialAttention', 'StridedDownsample']
