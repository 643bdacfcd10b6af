import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.models.layers import NearestUpsample, ResidualDownsample, ResidualUpsample, StridedDownsample


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


# residual sampling

def test_residual_downsample_is_a_conv_beside_averaged_pixels():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 8)
    for next_channels in (8, 16, 32):  # averaged, equal, repeated
        block = ResidualDownsample(4, next_channels)
        pixels = torch.stack([x[:, channel, row::2, column::2] for channel in range(4)
                              for row in (0, 1) for column in (0, 1)], dim=1)
        if next_channels <= 16:
            shortcut = torch.stack([group.mean(1) for group in pixels.chunk(next_channels, dim=1)], dim=1)
        else:
            shortcut = torch.cat([pixels, pixels], dim=1)
        assert block(x).shape == (2, next_channels, 3, 4)
        torch.testing.assert_close(block(x) - F.pixel_unshuffle(block.conv(x), 2), shortcut)


def test_residual_upsample_is_a_conv_beside_repeated_channels():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 4)
    for next_channels in (4, 8):
        block = ResidualUpsample(8, next_channels)
        repeats = 4 * next_channels // 8
        repeated = torch.stack([x[:, i // repeats] for i in range(4 * next_channels)], dim=1)
        assert block(x).shape == (2, next_channels, 6, 8)
        torch.testing.assert_close(block(x) - F.pixel_shuffle(block.conv(x), 2), F.pixel_shuffle(repeated, 2))


def test_without_weights_residual_sampling_keeps_what_it_can():
    """Down and up between equal widths, convs silenced: the mean of each 2x2 block of the averaged channels."""
    down, up = ResidualDownsample(4, 16), ResidualUpsample(16, 4)
    for block in (down, up):
        torch.nn.init.zeros_(block.conv.weight)
        torch.nn.init.zeros_(block.conv.bias)
    x = torch.randn(1, 4, 4, 4)
    torch.testing.assert_close(up(down(x)), x)


@pytest.mark.parametrize(('build', 'message'), [
    (lambda: ResidualDownsample(6, 10), '10 output channels; a multiple of 4'),
    (lambda: ResidualDownsample(5, 12), '20 channels to 12; one must divide the other'),
    (lambda: ResidualUpsample(6, 4), '6 -> 4 channels; 6 must divide 16')])
def test_residual_widths_are_checked(build, message):
    with pytest.raises(ValueError, match=message):
        build()
