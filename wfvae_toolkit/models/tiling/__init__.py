"""Large pictures in bounded memory: the convolutional stages run tile by tile, all else on the whole picture.

A tile is computed together with the pixels around it that its convolutions read (its halo). If all norms look at
single pixels, the tiled result therefore equals the result without tiling. Parts that look at the whole picture stay
outside the tiles: the wavelet pyramid, which has no weights and few channels, and the mid blocks, at the latent's size.

``controls``: the methods that an autoencoder gets. ``passes``: encoder and decoder, tile by tile. ``halo``: which
input pixels an output pixel reads. ``pieces``: cutting an axis into tiles and putting the tiles together.
"""

from .controls import AUTO_PIXELS, Tiling, TilingControls, set_tiling
from .halo import Halo, halo_of
from .passes import ATTENTION_POSITIONS, attention_windows, run_mid

__all__ = ['ATTENTION_POSITIONS', 'AUTO_PIXELS', 'Halo', 'Tiling', 'TilingControls', 'attention_windows', 'halo_of',
           'run_mid', 'set_tiling']
