import pytest
import torch
from torch import nn

from wfvae_toolkit.models.layers import NearestUpsample, StridedDownsample


def pick(conv, row, column):
    """Make a 3x3 conv copy the sample at one place of its window."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    for channel in range(conv.weight.shape[0]):
        conv.weight.data[channel, channel, row, column] = 1.0


@pytest.mark.parametrize('row', [0, 1, 2])
@pytest.mark.parametrize('column', [0, 1, 2])
def test_downsample_windows_start_at_even_pixels_and_pad_right_and_bottom(row, column):
    downsample = StridedDownsample(2)
    pick(downsample.conv, row, column)
    x = torch.arange(1.0, 2 * 4 * 6 + 1).reshape(1, 2, 4, 6)
    expected = torch.zeros(1, 2, 2, 3)
    for i in range(2):
        for j in range(3):
            if 2 * i + row < 4 and 2 * j + column < 6:
                expected[..., i, j] = x[..., 2 * i + row, 2 * j + column]
    assert torch.equal(downsample(x), expected)


def test_upsample_repeats_pixels_before_its_conv():
    upsample = NearestUpsample(2)
    pick(upsample.conv, 1, 1)
    x = torch.randn(1, 2, 3, 4)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(upsample(x), repeated)
    pick(upsample.conv, 0, 1)
    assert torch.equal(upsample(x)[:, :, 1:], repeated[:, :, :-1])
    assert not upsample(x)[:, :, 0].any()
