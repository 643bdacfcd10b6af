import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.utils.pixels import to_bytes
from wfvae_toolkit.visualization.pictures import (
    comparison_grid,
    contact_sheet,
    error_picture,
    score_overlay,
    write_picture,
)


def test_error_is_black_where_equal_and_white_at_a_quarter_of_the_range():
    target = torch.zeros(3, 1, 4)
    reconstruction = torch.tensor([0.0, 0.25, -0.5, 1.0]).expand(3, 1, 4)
    assert error_picture(target, reconstruction)[0, 0].tolist() == [-1, 0, 1, 1]


@pytest.mark.parametrize('gap', [0, 4])
def test_comparison_grid(gap):
    generator = torch.Generator().manual_seed(0)
    target, reconstruction = torch.rand(2, 2, 3, 5, 7, generator=generator) * 2 - 1
    grid = comparison_grid(target, reconstruction, gap=gap)
    assert grid.shape == (2 * 5 + gap, 3 * 7 + 2 * gap, 3)
    assert grid.dtype == np.uint8
    covered = np.zeros(grid.shape[:2], dtype=bool)
    for i in range(2):
        row = [target[i], reconstruction[i], error_picture(target[i], reconstruction[i])]
        for j, picture in enumerate(row):
            place = slice(i * (5 + gap), i * (5 + gap) + 5), slice(j * (7 + gap), j * (7 + gap) + 7)
            np.testing.assert_array_equal(grid[place], to_bytes(picture).permute(1, 2, 0).numpy())
            covered[place] = True
    assert (grid[~covered] == 255).all()


def test_more_columns_follow_the_error():
    target, reconstruction, more = torch.rand(3, 1, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    grid = comparison_grid(target, reconstruction, more, more, gap=0)
    np.testing.assert_array_equal(grid[:, :21], comparison_grid(target, reconstruction, gap=0))
    for left in (21, 28):
        np.testing.assert_array_equal(grid[:, left:left + 7], to_bytes(more[0]).permute(1, 2, 0).numpy())


def test_overlay_is_red_above_zero_and_blue_below():
    images = torch.zeros(1, 3, 4, 6)
    red, green, blue = score_overlay(images, torch.tensor([[2.0, 0.0, -2.0]]).reshape(1, 1, 1, 3), limit=2.0)[0]
    # Nearest: each score covers its two columns; green goes to black under both.
    for up, down, columns in ((red, blue, slice(0, 2)), (blue, red, slice(4, 6))):
        assert (up[:, columns] > 0.5).all()
        assert (down[:, columns] < -0.5).all()
    assert (green[:, [0, 1, 4, 5]] < -0.5).all()
    assert not torch.stack([red, green, blue])[:, :, 2:4].any()


def test_overlay_is_symmetric_and_in_proportion():
    images = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores = torch.tensor([1.0, -1.0, 4.0, -4.0]).reshape(1, 1, 2, 2)
    grey = score_overlay(images, 0 * scores, limit=4.0)
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand_as(images))
    change = (score_overlay(images, scores, limit=4.0) - grey).abs()
    torch.testing.assert_close(4 * score_overlay(images, scores, 16.0).sub(grey),
                               score_overlay(images, scores, 4.0).sub(grey))
    assert change[..., :2, :].max() < change[..., 2:, :].max()


def test_contact_sheet_holds_every_picture_and_name():
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (3, 60 + 5 * number, 90), dtype=torch.uint8, generator=generator)
              for number in range(5)]
    names = ['a.png', 'x' * 99 + '/long.png', '', 'ü\udcff.png', 'e.png']
    sheet = contact_sheet(images, names, columns=2)
    width, height = 90 + 8, 80 + 8 + 14
    assert sheet.shape == (3 * height - 8, 2 * width - 8, 3)
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        top, left = number // 2 * height, number % 2 * width
        bottom = top + image.shape[1]
        np.testing.assert_array_equal(sheet[top:bottom, left:left + 90], image.permute(1, 2, 0))
        below = sheet[bottom:top + height - 1, left:left + 90]
        assert (below < 128).any() == bool(name)
        assert (sheet[top:top + height, left + 90:left + 98] == 255).all()  # no name runs into the next
    small = contact_sheet([images[0], None], ['a', 'b'], max_edge=30)
    assert small.shape == (30 + 14, 2 * 30 + 8, 3)
    assert (small[:30, 38:] == 128).all()


def test_a_picture_is_written_without_loss(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    write_picture(pixels, tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as image:
        assert image.format == 'PNG'
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert [file.name for file in tmp_path.iterdir()] == ['a.png']
