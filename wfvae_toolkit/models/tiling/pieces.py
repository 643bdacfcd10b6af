"""Pieces of an axis, and the canvas on which tiles are put together."""

import math
from dataclasses import dataclass

import torch


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
        """(stop - start,) linear ramps over the shared pixels; the weights of two neighbours sum to 1."""
        place = torch.arange(self.stop - self.start, device=like.device) + 0.5
        rising = (place / self.fade_in).clamp(max=1) if self.fade_in else 1
        falling = ((self.stop - self.start - place) / self.fade_out).clamp(max=1) if self.fade_out else 1
        return (torch.ones_like(place) * rising * falling).to(like.dtype)


def cut(size, length, overlap=0):
    """[0, size) as about equal Pieces of at most ``length``; each inner end is extended by ``overlap``."""
    count = math.ceil(size / length)
    edges = [number * size // count for number in range(count + 1)]
    return [Piece(start - overlap * (start > 0), stop + overlap * (stop < size),
                  2 * overlap * (start > 0), 2 * overlap * (stop < size))
            for start, stop in zip(edges, edges[1:], strict=False)]


class Canvas:
    """A whole (B, C, height, width), ``result``, put together from tiles."""

    def __init__(self, height, width):
        self.size = (height, width)
        self.result = None

    def paste(self, tile, rows, columns):
        """Put (B, C, h, w) at the Pieces ``rows`` and ``columns``; shared pixels are mixed by their weights."""
        if self.result is None:
            self.result = torch.empty((*tile.shape[:2], *self.size), dtype=tile.dtype, device=tile.device,
                                      memory_format=torch.channels_last).zero_()
        place = self.result[..., slice(*rows.span), slice(*columns.span)]
        if any((rows.fade_in, rows.fade_out, columns.fade_in, columns.fade_out)):
            place += tile * rows.weights(tile)[:, None] * columns.weights(tile)
        else:
            place.copy_(tile)


def crop(x, region, origin=(0, 0)):
    """The part ``region`` (span of rows, span of columns) of x, (B, C, h, w). The first pixel of x is at ``origin``."""
    (top, bottom), (left, right) = region
    return x[..., top - origin[0]:bottom - origin[0], left - origin[1]:right - origin[1]]
