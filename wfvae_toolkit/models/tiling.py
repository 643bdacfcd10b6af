"""Large pictures in bounded memory: the convolutional stages run tile by tile, all else on the whole picture.

A tile is computed with the pixels around it that its convolutions read (its halo), so with norms that look at single
pixels the tiled result is the untiled one. What looks at everything stands outside the tiles: the wavelet pyramid,
which has no weights and few channels, and the mid blocks, at the latent's size.
"""

import inspect
import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import nn

from wfvae_toolkit.utils.errors import SettingError, is_number

# 1448x1448 px. The default model peaks at 1.3 GiB for 1024x1024 px untiled, in float32.
AUTO_PIXELS = 2**21
# 2048x2048 px at f = 8: about a minute on two CPU cores, and 16 times that for twice the edge.
ATTENTION_POSITIONS = 2**16


@dataclass
class Tiling:
    """How to tile.

    Args:
        tile (int): edge in image px of a tile without its halo, a multiple of f; tiles of one picture are about equal.
        above_pixels (int): pictures of more pixels (height times width) are tiled.
        attention_window (int): attention over more positions runs in overlapping, blended windows of at most so many
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

    Both act in evaluation: while the module trains, or gradients are enabled, or torch traces it for a compiler or an
    export, nothing is tiled.
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
        """Tile pictures of more than 2^21 pixels: the state of a new model."""
        self.enable_tiling(above_pixels=AUTO_PIXELS)

    def disable_tiling(self):
        """Never tile, whatever the size."""
        self.tiling = None

    def enable_slicing(self):
        """Take the images of a batch one by one; tiled pictures are taken so anyway."""
        self.slicing = True

    def disable_slicing(self):
        self.slicing = False

    @property
    def tiling_is_exact(self):
        """Whether no part of a stage looks beyond a known halo: then tiled equals untiled to rounding.

        Not for pictures of more than ``attention_window`` latent positions, whose attention is windowed.
        """
        return not (unbounded_parts(self.encoder) | unbounded_parts(self.decoder))

    def active_tiling(self, height, width):
        """The Tiling for a picture of this size in px, or None."""
        # The compiler comes first: it may know no height to compare.
        if torch.compiler.is_compiling() or self.training or torch.is_grad_enabled() or self.tiling is None:
            return None
        return self.tiling if height * width > self.tiling.above_pixels else None

    def run_half(self, half, x, tiling):
        """``half(x, tiling)``, a tensor and bands; image by image where tiling or slicing asks for it."""
        if (tiling is None and not self.slicing) or x.shape[0] < 2:
            return half(x, tiling)
        results, bands = zip(*(half(image, tiling) for image in x.split(1)), strict=True)
        return torch.cat(results), tuple(torch.cat(level) for level in zip(*bands, strict=True))


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


# What a part reads


@dataclass(frozen=True)
class Halo:
    """Pixels ``before`` and ``after`` its own place that an output pixel reads; ``unbounded``: parts that may read all.

    Counted at the finer of a part's two sizes: a downsampler's input, an upsampler's output.
    """

    before: int = 0
    after: int = 0
    unbounded: frozenset = frozenset()

    def __add__(self, other):
        return Halo(self.before + other.before, self.after + other.after, self.unbounded | other.unbounded)


def halo_of(*parts):
    """The Halo of modules in a row, all at one size.

    A part says its own as ``receptive_halo``: pixels on every side, a pair (before, after) or a Halo. One that says
    nothing may look at everything.
    """
    return sum((_own_halo(part) for part in parts), Halo())


def _own_halo(part):
    # Exact types: a plug-in may derive from torch's and stride or dilate.
    if type(part) is nn.Sequential:
        return halo_of(*part)
    if type(part) is nn.Conv2d:
        return Halo(part.kernel_size[0] // 2, part.kernel_size[0] // 2)
    if type(part) in (nn.Identity, nn.Dropout, nn.SiLU):
        return Halo()
    declared = getattr(part, 'receptive_halo', None)
    if declared is None:
        return Halo(unbounded=frozenset([type(part).__name__]))
    if isinstance(declared, Halo):
        return declared
    return Halo(declared, declared) if isinstance(declared, int) else Halo(*declared)


def unbounded_parts(half):
    """Class names in the tiled stages of an encoder or decoder for which no halo is known to be enough."""
    return halo_of(*half.tiled_parts()).unbounded


# Stretches of pixels along one axis, (start, stop)


def widen(span, halo):
    """What ``span`` of the output reads of an input of the same size."""
    return span[0] - halo.before, span[1] + halo.after


def read_by_downsampler(span, halo):
    """What ``span`` of the output reads of an input of twice the size."""
    return widen((2 * span[0], 2 * span[1]), halo)


def read_by_upsampler(span, halo):
    """What ``span`` of the output reads of an input of half the size."""
    start, stop = widen(span, halo)
    return start // 2, -(-stop // 2)


def cover(*spans):
    """The shortest stretch that holds all ``spans``."""
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def clip(span, size):
    """The part of ``span`` in [0, size): beyond a picture's border convolutions pad with zeros, tiled or not."""
    return max(span[0], 0), min(span[1], size)


def times(span, factor):
    return span[0] * factor, span[1] * factor


@dataclass(frozen=True)
class Piece:
    """[start, stop) along an axis; its first ``fade_in`` and last ``fade_out`` pixels are shared with a neighbour."""

    start: int
    stop: int
    fade_in: int = 0
    fade_out: int = 0

    @property
    def span(self):
        return self.start, self.stop

    def times(self, factor):
        """The same piece at ``factor`` times the size."""
        return Piece(*(factor * value for value in (self.start, self.stop, self.fade_in, self.fade_out)))

    def weights(self, like):
        """(stop - start,) linear ramps over what is shared; those of neighbours sum to 1."""
        place = torch.arange(self.stop - self.start, device=like.device) + 0.5
        rising = (place / self.fade_in).clamp(max=1) if self.fade_in else 1
        falling = ((self.stop - self.start - place) / self.fade_out).clamp(max=1) if self.fade_out else 1
        return (torch.ones_like(place) * rising * falling).to(like.dtype)


def cut(size, length, overlap=0):
    """[0, size) in about equal Pieces of at most ``length``, then ``overlap`` more at each end inside."""
    count = math.ceil(size / length)
    edges = [number * size // count for number in range(count + 1)]
    return [Piece(start - overlap * (start > 0), stop + overlap * (stop < size),
                  2 * overlap * (start > 0), 2 * overlap * (stop < size))
            for start, stop in zip(edges, edges[1:], strict=False)]


# Tiles


class Canvas:
    """A whole (B, C, height, width), ``result``, put together from tiles."""

    def __init__(self, height, width):
        self.size = (height, width)
        self.result = None

    def paste(self, tile, rows, columns):
        """Put (B, C, h, w) at Pieces ``rows`` and ``columns``; what neighbours share is mixed by their weights."""
        if self.result is None:
            self.result = torch.empty((*tile.shape[:2], *self.size), dtype=tile.dtype, device=tile.device,
                                      memory_format=torch.channels_last).zero_()
        place = self.result[..., slice(*rows.span), slice(*columns.span)]
        if any((rows.fade_in, rows.fade_out, columns.fade_in, columns.fade_out)):
            place += tile * rows.weights(tile)[:, None] * columns.weights(tile)
        else:
            place.copy_(tile)


def crop(x, region, origin=(0, 0)):
    """``region``, spans of rows and columns, of (B, C, h, w) whose first pixel stands at ``origin``."""
    (top, bottom), (left, right) = region
    return x[..., top - origin[0]:bottom - origin[0], left - origin[1]:right - origin[1]]


def tiled_features(encoder, pyramid, tiling):
    """``encoder.features(pyramid)`` tile by tile: (B, widths[-1], H/f, W/f)."""
    levels = len(encoder.stages)
    height, width = (size >> levels for size in pyramid[0].shape[-2:])
    canvas = Canvas(height, width)
    for rows, columns in _tiles(encoder, height, width, tiling, 2**(levels + 1)):
        canvas.paste(_encode_tile(encoder, pyramid, rows, columns, height, width), rows, columns)
    return canvas.result


def _encode_tile(encoder, pyramid, rows, columns, height, width):
    image, *regions = zip(encoder_spans(encoder, rows.span, height), encoder_spans(encoder, columns.span, width),
                          strict=True)
    h, origin = encoder.conv_in(crop(pyramid[0], image)), _first(image)
    for stage, region, coefficients in zip(encoder.stages, regions, pyramid[1:], strict=False):
        half = [(start // 2, stop // 2) for start, stop in region]
        h = stage(crop(h, region, origin), None if coefficients is None else crop(coefficients, half))
        origin = _first(half)
    return crop(h, (rows.span, columns.span), origin)


def encoder_spans(encoder, span, size):
    """Along an axis of ``size`` latent pixels: what the first conv and each stage take for the latent's ``span``."""
    needed = taken = span
    spans = []
    for stage in reversed(encoder.stages):
        size *= 2
        needed = clip(stage.reads(needed), size)
        # Halves begin and end at even places; what is only there for that may hold anything.
        taken = cover(times(taken, 2), (needed[0] - needed[0] % 2, needed[1] + needed[1] % 2))
        spans.insert(0, taken)
    return [cover(taken, clip(widen(needed, halo_of(encoder.conv_in)), size)), *spans]


def tiled_details(decoder, h, tiling):
    """``decoder.details(h)`` tile by tile: (B, 12, ...) of each stage, None without energy flow, and of the end."""
    levels = len(decoder.stages)
    height, width = h.shape[-2:]
    canvases = [Canvas(height << level, width << level) for level in range(levels + 1)]
    for rows, columns in _tiles(decoder, height, width, tiling, 2**(levels + 1)):
        _decode_tile(decoder, h, rows, columns, canvases)
    return [canvas.result for canvas in canvases]


def _decode_tile(decoder, h, rows, columns, canvases):
    *regions, end = zip(decoder_spans(decoder, rows.span, h.shape[-2]),
                        decoder_spans(decoder, columns.span, h.shape[-1]), strict=True)
    origin = (0, 0)
    for level, (stage, region) in enumerate(zip(decoder.stages, regions, strict=True)):
        h, details = stage(crop(h, region, origin))
        if details is not None:
            _paste_part(canvases[level], details, _first(region), rows.times(2**level), columns.times(2**level))
        origin = [2 * start for start in _first(region)]
    factor = 2**len(regions)
    _paste_part(canvases[-1], decoder.last_details(crop(h, end, origin)), _first(end),
                rows.times(factor), columns.times(factor))


def decoder_spans(decoder, span, size):
    """Along an axis of ``size`` latent pixels: what each stage and the end read for the latent's ``span``."""
    levels = len(decoder.stages)
    wanted = clip(widen(times(span, 2**levels), halo_of(*decoder.last_parts())), size << levels)
    spans = [wanted]
    for level in reversed(range(levels)):
        wanted = clip(decoder.stages[level].reads(wanted, times(span, 2**level)), size << level)
        spans.insert(0, wanted)
    return spans


def _paste_part(canvas, x, origin, rows, columns):
    canvas.paste(crop(x, (rows.span, columns.span), origin), rows, columns)


def _first(region):
    return [start for start, _ in region]


def _tiles(half, height, width, tiling, factor):
    """Pairs of Pieces, rows and columns, of a latent of this size; overlapping where no halo is enough."""
    length = max(1, tiling.tile // factor)
    unbounded = unbounded_parts(half)
    # Together a quarter of a tile is shared with each neighbour.
    grid = [cut(size, length, length // 8 if unbounded else 0) for size in (height, width)]
    if unbounded and max(map(len, grid)) > 1:
        tiling.warn_once(f'tiling is approximate: {", ".join(sorted(unbounded))} may look at the whole picture and '
                         'sees one tile; tiles overlap and are blended')
    return [(rows, columns) for rows in grid[0] for columns in grid[1]]
