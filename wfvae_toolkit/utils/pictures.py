"""Pictures as tensors: their bytes, their borders, and several side by side."""

import numpy as np
import torch
import torch.nn.functional as F

ERROR_GAIN = 4.0  # an error of a quarter of the range is white
OVERLAY_OPACITY = 0.7  # of the strongest score: the image stays visible


def to_bytes(images):
    """(..., 3, H, W) in [-1, 1] -> uint8 (..., 3, H, W), rounded to nearest, not truncated."""
    return images.clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)


def pad_to_multiple(images, factor):
    """(B, C, H, W) -> the same with H and W filled up to multiples of ``factor``, on the right and at the bottom.

    By reflection; where a picture is not larger than the padding, its edge is repeated.
    """
    height, width = images.shape[-2:]
    for size, padding in ((width, (0, -width % factor, 0, 0)), (height, (0, 0, 0, -height % factor))):
        if any(padding):
            images = F.pad(images, padding, mode='reflect' if max(padding) < size else 'replicate')
    return images


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


def comparison_grid(target, reconstruction, *more, gap=4):
    """(B, 3, H, W) each, in [-1, 1] -> uint8 (B*H + gaps, 3*W + gaps, 3): input, reconstruction, error, more a row."""
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
        names (list[str]): as many. What does not fit loses its beginning.
        columns (int): tiles a row.
        max_edge (int): larger pictures are shrunk to it, in px; smaller ones are shown as they are.
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
        name = name.encode('ascii', 'replace').decode()  # the font has few other letters
        while font.getlength(name) > width - gap:
            name = name[1:]
        draw.text((left, top + tile.height + 1), name, 'black', font)
    return np.asarray(sheet)


def write_picture(pixels, path, format='PNG', **settings):
    """uint8 (H, W, 3) -> a file of Pillow's ``format`` with its ``settings``, replaced as a whole."""
    from PIL import Image

    from wfvae_toolkit.utils.files import atomic_write

    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format=format, **settings)
