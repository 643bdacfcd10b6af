"""Encoder and decoder of ``WFVAE2Image``, with their stages tile by tile and their attention in windows."""

import math

from .halo import decoder_spans, encoder_spans, unbounded_in_decoder, unbounded_in_encoder
from .pieces import Canvas, Piece, crop, cut

# 2048x2048 px at f = 8: about a minute on two CPU cores, and 16 times that for twice the edge.
ATTENTION_POSITIONS = 2**16


def encode_tiled(encoder, x, tiling):
    """``encoder(x)``, (moments, bands), with tiled stages."""
    pyramid = encoder.pyramid(x)
    h = run_mid(encoder.mid, tiled_features(encoder, pyramid, tiling), tiling)
    return encoder.head(h), encoder.flow_bands(pyramid)


def decode_tiled(decoder, z, tiling):
    """``decoder(z)``, (image, bands), with tiled stages."""
    h = run_mid(decoder.mid, decoder.enter(z), tiling)
    return decoder.synthesize(tiled_details(decoder, h, tiling))


def tiled_features(encoder, pyramid, tiling):
    """``encoder.features(pyramid)`` tile by tile: (B, widths[-1], H/f, W/f)."""
    levels = len(encoder.stages)
    height, width = (size >> levels for size in pyramid[0].shape[-2:])
    canvas = Canvas(height, width)
    for rows, columns in _tiles(unbounded_in_encoder(encoder), height, width, tiling, 2**(levels + 1)):
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


def tiled_details(decoder, h, tiling):
    """``decoder.details(h)`` tile by tile: (B, 12, ...) of each stage, None without energy flow, and of the end."""
    levels = len(decoder.stages)
    height, width = h.shape[-2:]
    canvases = [Canvas(height << level, width << level) for level in range(levels + 1)]
    for rows, columns in _tiles(unbounded_in_decoder(decoder), height, width, tiling, 2**(levels + 1)):
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


def _paste_part(canvas, x, origin, rows, columns):
    canvas.paste(crop(x, (rows.span, columns.span), origin), rows, columns)


def _first(region):
    return [start for start, _ in region]


def _tiles(unbounded, height, width, tiling, factor):
    """Pairs of Pieces, rows and columns, of a latent of this size; they overlap if any part is ``unbounded``."""
    length = max(1, tiling.tile // factor)
    # Each tile shares a quarter of its edge with each neighbour.
    grid = [cut(size, length, length // 8 if unbounded else 0) for size in (height, width)]
    if unbounded and max(map(len, grid)) > 1:
        tiling.warn_once(f'tiling is approximate: {", ".join(sorted(unbounded))} may look at the whole picture, but '
                         'see one tile at a time; tiles overlap and are blended')
    return [(rows, columns) for rows in grid[0] for columns in grid[1]]


def run_mid(blocks, h, tiling):
    """Mid blocks on the whole latent (B, C, h, w).

    Blocks with ``attends_everywhere`` run in windows if the latent has more positions than ``attention_window``.
    """
    height, width = h.shape[-2:]
    window = None if tiling is None else tiling.attention_window
    for block in blocks:
        if window is None or height * width <= window or not getattr(block, 'attends_everywhere', False):
            h = block(h)
            continue
        tiling.warn_once(f'attention over {width}x{height} latent positions is approximate: it runs in blended windows '
                         f'of at most {window}; enable_tiling(attention_window=None) attends to all at once')
        canvas = Canvas(height, width)
        for rows, columns in attention_windows(height, width, window):
            canvas.paste(block(crop(h, (rows.span, columns.span))), rows, columns)
        h = canvas.result
    return h


def attention_windows(height, width, positions):
    """Overlapping pairs of Pieces, rows and columns, each of at most ``positions``, about square where possible."""
    edge = math.isqrt(positions)
    across = min(width, positions // min(height, edge))
    down = min(height, positions // across)
    grid = [[Piece(0, size)] if size <= edge else cut(size, edge * 3 // 4, edge // 8)
            for size, edge in ((height, down), (width, across))]
    return [(rows, columns) for rows in grid[0] for columns in grid[1]]
