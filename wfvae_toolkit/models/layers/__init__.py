"""Building blocks: norms, residual and attention blocks, resampling.

The owner of a part passes some arguments to it (``channels``, ``norm``, ...); they are listed with its registry in
``wfvae_toolkit/registry.py``. All parts but MID_BLOCKS may declare a ``receptive_halo`` (see ``halo_of`` in
``models/tiling/halo.py``). Without one, tiling is approximate.
"""

from .attention import SpatialAttention
from .channel_attention import ECA
from .norms import GroupNorm, LayerNorm2d, RMSNorm2d
from .resampling import NearestUpsample, ResidualDownsample, ResidualUpsample, StridedDownsample
from .residual import ResidualBlock

__all__ = ['ECA', 'GroupNorm', 'LayerNorm2d', 'NearestUpsample', 'RMSNorm2d', 'ResidualBlock', 'ResidualDownsample',
           'ResidualUpsample', 'SpatialAttention', 'StridedDownsample']
