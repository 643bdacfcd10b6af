"""Grids and stripes that an autoencoder draws into areas of one colour."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from wfvae_toolkit.utils.device import as_float64
from wfvae_toolkit.utils.pixels import from_bytes, to_levels

# Greys, and colours as dull as those of photographs; off the ends of the range, where clipping hides half a pattern.
LEVELS = (32, 96, 160, 224, (160, 96, 96), (96, 160, 96), (96, 96, 160))
_TILES = 4  # periods an axis over which a pattern is averaged


@dataclass
class FlatField:
    """Errors in the reconstruction of one colour, in 8-bit levels.

    Attributes:
        colour (tuple[int, int, int]): RGB, 0 to 255.
        grid (float): RMS of the pattern that repeats along both axes.
        stripes (float): RMS of the pattern that repeats along one axis and is constant along the other.
        rest (float): RMS of everything that repeats along neither axis.
        offset (float): largest error of the mean over the three channels.
    """

    colour: tuple[int, int, int]
    grid: float
    stripes: float
    rest: float
    offset: float


@torch.inference_mode()
def measure_flat_fields(autoencoder, levels=LEVELS, device='cpu'):
    """Reconstruct images of one colour through the posterior's mean, one at a time -> list of FlatField.

    An image is 16 f x 16 f px, f the autoencoder's factor; 3 f px at each border do not count. Values are neither
    clipped nor rounded. Periods are those that divide 2 f: strides of the network, and a latent that alternates.

    Args:
        autoencoder (nn.Module): in evaluation mode.
        levels (Sequence[int | tuple[int, int, int]]): greys or RGB, 0 to 255.
    """
    factor = autoencoder.downsample_factor
    fields = []
    for level in levels:
        colour = (level,) * 3 if isinstance(level, int) else tuple(level)
        pixels = torch.tensor(colour, dtype=torch.uint8, device=device)[:, None, None]
        image = from_bytes(pixels).expand(1, 3, 16 * factor, 16 * factor)
        decoded = autoencoder.decode(autoencoder.encode(image).latent_dist.mode()).sample
        decoded = as_float64(decoded[0])
        levels_off = to_levels(decoded) - pixels.to(decoded.device)
        inner = levels_off[:, 3 * factor:-3 * factor, 3 * factor:-3 * factor]
        grid, stripes, rest = periodic_parts(inner, 2 * factor)
        fields.append(FlatField(colour, grid, stripes, rest, inner.mean((1, 2)).abs().max().item()))
    return fields


def periodic_parts(field, period):
    """(C, H, W), H = W = 5 periods -> RMS of its grid, its stripes and the rest, over channels.

    Subtract the mean over one period around each pixel: this removes slopes and keeps patterns of that period.
    Average four by four periods of the rest into one tile, which is the pattern. The tile's mean rows and mean columns
    are lines along the two axes. The energy that both axes share counts as grid, and so does the energy that is in
    no line. The difference between the axes counts as stripes. The three energies sum to the field's. White
    noise leaves 1/16 of its energy in the tile; this share is subtracted.
    """
    # Half weights at both ends keep the window symmetric, so that slopes vanish too.
    window = torch.full((period + 1,), 1.0 / period, dtype=field.dtype, device=field.device)
    window[[0, -1]] /= 2
    smooth = F.conv2d(F.conv2d(field[:, None], window[None, None, :, None]), window[None, None, None, :])[:, 0]
    half = period // 2
    detail = field[:, half:-half, half:-half] - smooth
    detail = detail - detail.mean((1, 2), keepdim=True)
    tiles = detail.unflatten(2, (_TILES, period)).unflatten(1, (_TILES, period))  # C, tile, y, tile, x
    tile = tiles.mean((1, 3))
    noise = (detail.square().mean() - tile.square().mean()) / (_TILES**2 - 1)
    rows, columns = tile.mean(2, keepdim=True), tile.mean(1, keepdim=True)
    # Share of the tile's degrees of freedom: period - 1 each for rows and columns, of period^2.
    line = noise * (period - 1) / period**2
    by_rows, by_columns = ((part.square().mean() - line).clamp(min=0.0) for part in (rows, columns))
    neither = ((tile - rows - columns).square().mean() - noise * (period - 1)**2 / period**2).clamp(min=0.0)
    grid = neither + 2.0 * torch.minimum(by_rows, by_columns)
    stripes = (by_rows - by_columns).abs()
    rest = noise * _TILES**2
    return grid.sqrt().item(), stripes.sqrt().item(), rest.sqrt().item()
