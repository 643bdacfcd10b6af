import pytest
import torch
import torch.nn.functional as F

from wfvae_toolkit.models.layers import ResidualBlock

NORM = dict(type='LayerNorm2d')


def build(*args, **settings):
    torch.manual_seed(0)
    return ResidualBlock(*args, norm=NORM, **settings)


def layer_norm(x, norm):
    return F.layer_norm(x.movedim(1, -1), (x.shape[1],), norm.weight, norm.bias, 1e-6).movedim(-1, 1)


@pytest.mark.parametrize('out_channels', [None, 8, 12])
def test_equals_the_plain_formulation(out_channels):
    block = build(8, out_channels=out_channels)
    x = torch.randn(2, 8, 5, 6)
    h = F.conv2d(F.silu(layer_norm(x, block.norm1)), block.conv1.weight, block.conv1.bias, padding=1)
    h = F.conv2d(F.silu(layer_norm(h, block.norm2)), block.conv2.weight, block.conv2.bias, padding=1)
    skip = F.conv2d(x, block.shortcut.weight, block.shortcut.bias) if out_channels == 12 else x
    torch.testing.assert_close(block(x), skip + h)


@pytest.mark.parametrize(('channels', 'out_channels'), [(8, 8), (8, 12)])
def test_parameter_count(channels, out_channels):
    skip = 0 if channels == out_channels else (channels + 1) * out_channels
    convs = (9 * channels + 1) * out_channels + (9 * out_channels + 1) * out_channels
    count = sum(p.numel() for p in build(channels, out_channels=out_channels).parameters())
    assert count == 2 * channels + 2 * out_channels + convs + skip


def test_dropout_stands_before_the_second_conv():
    block = build(8, dropout=1.0)
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(block.train()(x), x + block.conv2.bias[:, None, None])
    torch.testing.assert_close(block.eval()(x), build(8)(x))
