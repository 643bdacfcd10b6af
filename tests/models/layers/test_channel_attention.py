import math

import pytest
import torch

from wfvae_toolkit.models.layers import ECA
from wfvae_toolkit.models.layers.channel_attention import kernel_size


@pytest.mark.parametrize(('channels', 'taps'), [(8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5),
                                                (1024, 5), (2048, 7)])
def test_kernel_follows_the_papers_equation(channels, taps):
    exact = abs((math.log2(channels) + 1) / 2)
    assert kernel_size(channels) == taps
    assert taps % 2 == 1
    assert taps == 3 or abs(taps - exact) <= 1


def test_factors_are_a_conv_over_the_channels_means():
    torch.manual_seed(0)
    block, x = ECA(16), torch.randn(2, 16, 5, 7)
    means = torch.nn.functional.pad(x.mean((2, 3)), (1, 1))
    kernel = block.conv.weight.flatten()
    factors = torch.stack([torch.sigmoid((means[:, i:i + 3] * kernel).sum(1)) for i in range(16)], dim=1)
    torch.testing.assert_close(block(x), x * factors[:, :, None, None])
