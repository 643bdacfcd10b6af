"""Pictures for people: several side by side, errors and scores as colours, contact sheets."""

import numpy as np
import torch
import torch.nn.functional as F

from wfvae_toolkit.utils.pixels import to_bytes

GAP = 4  # px between the pictures of `comparison_grid`
ERROR_GAIN = 4.0  # an error of a quarter of the range is white
OVERLAY_OPACITY = 0.7  # of the strongest score: the image stays visible


def error_picture(target, reconstruction):
    """|difference| of images in [-1, 1], times ERROR_GAIN, as an image in [-1, 1]; black where equal."""
    return (target - reconstruction).abs().mul(ERROR_GAIN / 2).clamp(0.0, 1.0).mul(2.0).sub(1.0)


def score_overlay(images, scores, limit):
    """Images in [-1, 1] (B, 3, H, W) under patch scores (B, 1, h, w): red above 0, blue below, strongest at ``limit``.

    Scores are upsampled to the nearest pixel. The image is grey, so that every colour is a score's.
    """
    grey = images.mean(1, keepdim=True).expand_as(images)
    scores = F.interpolate(scores / limit, images.shape[-2:], mode='nearest').clamp(-1.0, 1.0)
    red_or_blue = torch.cat([scores, -torch.ones_like(scores), -scores], dim=1).sign()
    return torch.lerp(grey, red_or_blue, OVERLAY_OPACITY * scores.abs())


def comparison_grid(target, reconstruction, *more, gap=GAP):
    """(B, 3, H, W) each, in [-1, 1] -> uint8 (B*H + gaps, 3*W + gaps, 3): input, reconstruction, error, more."""
    rows = torch.stack([target, reconstruction, error_picture(target, reconstruction), *more], dim=1)
    count, columns, channels, height, width = rows.shape
    canvas = torch.full((channels, count * (height + gap) - gap, columns * (width + gap) - gap), 255,
                        dtype=torch.uint8)
    for i in range(count):
        for j in range(columns):
            top, left = i * (height + gap), j * (width + gap)
            canvas[:, top:top + height, left:left + width] = to_bytes(rows[i, j]).cpu()
    return canvas.permute(1, 2, 0).contiguous().numpy()


def contact_sheet(images, names, columns=4, max_edge=512, gap=8):
    """Pictures with their names below -> uint8 (height, width, 3).

    Args:
        images (list[Tensor | None]): uint8 (3, H, W) of any sizes; None gives a grey tile.
        names (list[str]): one per picture. A name that is too long loses its beginning.
        columns (int): tiles per row.
        max_edge (int): longest side in px. Larger pictures are shrunk to it; smaller ones keep their size.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, line = ImageFont.load_default(), 14
    tiles = [Image.new('RGB', (64, 64), 'grey') if image is None else Image.fromarray(image.permute(1, 2, 0).numpy())
             for image in images]
    for tile in tiles:
        tile.thumbnail((max_edge, max_edge), Image.Resampling.BICUBIC)
    width, height = (max(sides) + gap for sides in zip(*(tile.size for tile in tiles), strict=True))
    columns = min(columns, len(tiles))
    sheet = Image.new('RGB', (columns * width - gap, -(-len(tiles) // columns) * (height + line) - gap), 'white')
    draw = ImageDraw.Draw(sheet)
    for number, (tile, name) in enumerate(zip(tiles, names, strict=True)):
        row, column = divmod(number, columns)
        left, top = column * width, row * (height + line)
        sheet.paste(tile, (left, top))
        name = name.encode('ascii', 'replace').decode()  # the font has few letters beyond ASCII
        while font.getlength(name) > width - gap:
            name = name[1:]
        draw.text((left, top + tile.height + 1), name, 'black', font)
    return np.asarray(sheet)


def write_picture(pixels, path, format='PNG', **settings):
    """Write uint8 (H, W, 3) atomically as a file of Pillow's ``format``, with Pillow's ``settings``."""
    from PIL import Image

    from wfvae_toolkit.utils.files import atomic_write

    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format=format, **settings)
