"""Tiling and slicing as an autoencoder offers them: settings, and when they apply."""

import inspect
import warnings
from dataclasses import dataclass, field
from functools import partial

import torch

from wfvae_toolkit.utils.errors import SettingError, is_number

from .halo import unbounded_in_decoder, unbounded_in_encoder
from .passes import ATTENTION_POSITIONS, decode_tiled, encode_tiled

# 1448x1448 px. Without tiling, the default model peaks at 1.3 GiB for 1024x1024 px in float32.
AUTO_PIXELS = 2**21


@dataclass
class Tiling:
    """How to tile.

    Args:
        tile (int): edge in image px of a tile without its halo, a multiple of f; tiles of one picture are about equal.
        above_pixels (int): pictures of more pixels (height times width) are tiled.
        attention_window (int): attention over more positions runs in overlapping, blended windows of at most this many,
            and is approximate; None: never.
    """

    tile: int = 512
    above_pixels: int = 0
    attention_window: int | None = ATTENTION_POSITIONS
    _said: set = field(default_factory=set, repr=False, compare=False)

    def warn_once(self, text):
        if text not in self._said:
            self._said.add(text)
            warnings.warn(text, stacklevel=2)


class TilingControls:
    """Tiling and slicing of an autoencoder with ``encoder``, ``decoder`` and ``downsample_factor``.

    Both act in evaluation only. Nothing is tiled while the module trains, while gradients are enabled, or while torch
    traces the module for a compiler or an export.
    """

    slicing = False

    def enable_tiling(self, tile=512, above_pixels=0, attention_window=ATTENTION_POSITIONS):
        """Tile pictures of more than ``above_pixels``; settings as of ``Tiling``. SettingError: they cannot work."""
        factor = self.downsample_factor
        if not is_number(tile, 1, whole=True) or tile % factor:
            raise SettingError(f'tile={tile!r}: use a multiple of {factor} px, such as {factor * 64}')
        if attention_window is not None and not is_number(attention_window, 64, whole=True):
            raise SettingError(f'attention_window={attention_window!r}: use at least 64 positions, or None')
        if not is_number(above_pixels, 0):
            raise SettingError(f'above_pixels={above_pixels!r}: use a number of pixels from 0')
        self.tiling = Tiling(tile, above_pixels, attention_window)

    def automatic_tiling(self):
        """Tile pictures of more than 2^21 pixels. A new model starts like this."""
        self.enable_tiling(above_pixels=AUTO_PIXELS)

    def disable_tiling(self):
        """Never tile, whatever the size."""
        self.tiling = None

    def enable_slicing(self):
        """Compute the images of a batch one by one. Tiled pictures are always computed so."""
        self.slicing = True

    def disable_slicing(self):
        self.slicing = False

    @property
    def tiling_is_exact(self):
        """Whether every part of the stages has a known halo; then tiling changes results by rounding only.

        This does not cover attention in windows, for pictures of more than ``attention_window`` latent positions.
        """
        return not (unbounded_in_encoder(self.encoder) | unbounded_in_decoder(self.decoder))

    def active_tiling(self, height, width):
        """The Tiling for a picture of this size in px, or None."""
        # The compiler comes first: it may know no height to compare.
        if torch.compiler.is_compiling() or self.training or torch.is_grad_enabled() or self.tiling is None:
            return None
        return self.tiling if height * width > self.tiling.above_pixels else None

    def run_encoder(self, x):
        """``encoder(x)``: (moments, bands) of images (B, 3, H, W); tiled or sliced where that is switched on."""
        tiling = self.active_tiling(*x.shape[-2:])
        return self._run(_pass_of(self.encoder, encode_tiled, tiling), x, tiling)

    def run_decoder(self, z):
        """``decoder(z)``: (images, bands) of latents (B, C, h, w); tiled or sliced where that is switched on."""
        tiling = self.active_tiling(*(size * self.downsample_factor for size in z.shape[-2:]))
        return self._run(_pass_of(self.decoder, decode_tiled, tiling), z, tiling)

    def run_half(self, half, x, tiling):
        """The same for an encoder or decoder of a plug-in that tiles itself: ``half(x, tiling)``."""
        return self._run(lambda image: half(image, tiling), x, tiling)

    def _run(self, function, x, tiling):
        """``function(x)``, a tensor and bands; image by image where tiling or slicing asks for it."""
        if (tiling is None and not self.slicing) or x.shape[0] < 2:
            return function(x)
        results, bands = zip(*(function(image) for image in x.split(1)), strict=True)
        return torch.cat(results), tuple(torch.cat(level) for level in zip(*bands, strict=True))


def _pass_of(half, tiled_pass, tiling):
    """The function of one input that computes ``half`` with this Tiling, or with None."""
    if tiling is None:
        return half
    if 'tiling' in inspect.signature(half.forward).parameters:  # a plug-in's, which tiles itself
        return partial(half, tiling=tiling)
    return partial(tiled_pass, half, tiling=tiling)


def set_tiling(autoencoder, tiling):
    """``'auto'``, True, False or settings of ``enable_tiling``. SettingError: this autoencoder has no tiling."""
    if not isinstance(autoencoder, TilingControls):
        if tiling not in ('auto', False):
            raise SettingError(f"{type(autoencoder).__name__} has no tiling: use tiling='auto' or False")
    elif tiling is False:
        autoencoder.disable_tiling()
    elif tiling == 'auto':
        autoencoder.automatic_tiling()
    else:
        known = inspect.signature(TilingControls.enable_tiling).parameters.keys() - {'self'}
        if tiling is not True and not (isinstance(tiling, dict) and tiling.keys() <= known):
            raise SettingError(f"tiling={tiling!r}: use 'auto', True, False or a dict of {', '.join(sorted(known))}")
        autoencoder.enable_tiling(**({} if tiling is True else tiling))
