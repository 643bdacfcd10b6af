import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from wfvae_toolkit.evaluation.flat_fields import LEVELS, measure_flat_fields, periodic_parts
from wfvae_toolkit.models.autoencoders import WFVAE2Image


class Drawing(nn.Module):
    """Gives back its images with ``pattern(y, x)``, in 8-bit levels, on top."""

    def __init__(self, pattern, factor=8):
        super().__init__()
        self.pattern = pattern
        self.downsample_factor = factor

    def encode(self, images):
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: images))

    def decode(self, images):
        y, x = torch.meshgrid(*(torch.arange(size) for size in images.shape[-2:]), indexing='ij')
        return SimpleNamespace(sample=images + self.pattern(y, x) / 127.5)


def wave(position, period, amplitude=1.0):
    return amplitude * torch.cos(2 * math.pi * position / period + 0.3)


def measure(pattern, **options):
    field, = measure_flat_fields(Drawing(pattern, **options), levels=[128])
    return field


def test_a_clean_one_has_nothing():
    for field in measure_flat_fields(Drawing(lambda y, x: 0.0 * y)):
        assert max(field.grid, field.stripes, field.rest, field.offset) < 1e-4


@pytest.mark.parametrize('factor', [4, 8, 32])
@pytest.mark.parametrize('part', [1, 2, 4])
def test_stripes_are_measured_at_every_period(factor, part):
    period = 2 * factor / part
    for stripes in (lambda y, x: wave(y, period, 3.0), lambda y, x: wave(x, period, 3.0)):
        field = measure(stripes, factor=factor)
        expected = stripes(*(torch.arange(2 * factor),) * 2).square().mean().sqrt().item()
        assert field.stripes == pytest.approx(expected, rel=1e-3)
        assert max(field.grid, field.rest) < 0.02


@pytest.mark.parametrize('period', [2, 8, 16])
def test_a_grid_is_one_along_both_axes(period):
    product = measure(lambda y, x: wave(y, period) * wave(x, period, 4.0))
    # At 2 px a cosine has no zeros between its samples.
    expected = 4.0 * math.cos(0.3)**2 if period == 2 else 2.0
    assert product.grid == pytest.approx(expected, rel=1e-3)
    # Lines at the blocks' edges in both directions: sums of rows and columns, and still a grid.
    lines = measure(lambda y, x: 2.0 * (y % period == 0) + 2.0 * (x % period == 0))
    assert lines.grid == pytest.approx(2.0 * math.sqrt(2 * (1 / period - 1 / period**2)), rel=1e-3)
    for field in (product, lines):
        assert max(field.stripes, field.rest) < 0.02


def test_energies_add_up():
    field = measure(lambda y, x: wave(y, 8, 3.0) + wave(x, 16, 1.0) + wave(y, 4) * wave(x, 8, 2.0))
    assert field.stripes == pytest.approx(math.sqrt((9 - 1) / 2), rel=1e-3)
    assert field.grid == pytest.approx(math.sqrt(4 / 4 + 2 * 1 / 2), rel=1e-3)


def test_noise_is_no_pattern():
    noise = 5.0 * torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
    field = measure(lambda y, x: noise)
    assert field.rest == pytest.approx(5.0, rel=0.05)
    assert max(field.grid, field.stripes) < 0.3
    both = measure(lambda y, x: noise + wave(y, 16) * wave(x, 16, 4.0))
    assert both.grid == pytest.approx(2.0, rel=0.1)


def test_slopes_borders_and_other_periods_are_no_pattern():
    border = torch.full((128, 128), 50.0)
    border[24:-24, 24:-24] = 0.0
    for other in (lambda y, x: 0.3 * x - 0.1 * y, lambda y, x: 0.01 * (x - 40)**2, lambda y, x: border):
        field = measure(other)
        assert max(field.grid, field.stripes, field.rest) < 1e-3
    assert measure(lambda y, x: wave(x, 64 / 7, 4.0)).stripes < 1e-3
    # Between the frequencies that 64 px resolve, some leaks.
    assert measure(lambda y, x: wave(x, 80 / 7, 4.0)).stripes < 0.3 * 4.0 / math.sqrt(2)


def test_offset_is_the_error_of_the_mean():
    assert measure(lambda y, x: 2.5 + wave(y, 8, 3.0)).offset == pytest.approx(2.5, abs=1e-3)
    reds = torch.tensor([-7.0, 1.0, 2.0])[:, None, None]
    assert measure(lambda y, x: reds + 0.0 * y).offset == pytest.approx(7.0, abs=1e-3)


def test_a_pattern_of_one_colour_is_found_there():
    class Reds(Drawing):
        def decode(self, images):
            only = (images[:, :1].mean() > images[:, 1:2].mean()).float()
            return SimpleNamespace(sample=images + only * (super().decode(images).sample - images))

    fields = measure_flat_fields(Reds(lambda y, x: wave(y, 8, 2.0)))
    assert [field.colour for field in fields] == [(level,) * 3 if isinstance(level, int) else level for level in LEVELS]
    assert [field.stripes > 1 for field in fields] == [field.colour == (160, 96, 96) for field in fields]


def test_every_channel_counts():
    weights = torch.tensor([1.0, 0.0, 2.0])[:, None, None]
    grid, stripes, rest = periodic_parts(weights * wave(torch.arange(80), 16)[None, None].expand(3, 80, 80), 16)
    assert stripes == pytest.approx(math.sqrt((1 + 4) / 3 / 2), rel=1e-5)
    assert max(grid, rest) < 1e-6


def test_a_network_is_left_alone():
    torch.manual_seed(0)
    network = WFVAE2Image(latent_channels=3, widths=(8, 12), flow_width=4).eval()
    before, generator = {key: value.clone() for key, value in network.state_dict().items()}, torch.get_rng_state()
    first, second = measure_flat_fields(network), measure_flat_fields(network)
    assert first == second
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
