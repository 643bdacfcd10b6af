import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wfvae_toolkit.visualization.curves import Curve, draw_curves


@pytest.mark.parametrize('count', [1, 9, 10, 11, 80, 1000, 4321])
def test_a_curve_is_bounded_and_keeps_the_mean(count):
    curve = Curve(size=5)
    values = np.random.default_rng(0).normal(size=count)
    for i, value in enumerate(values):
        curve.add(10 * i, value)
        assert len(curve.x) == len(curve.y) < 2 * curve.size
    complete = len(curve.x) * curve.merged
    assert count - complete < curve.merged
    assert len(curve.x) >= min(count, curve.size)
    assert np.mean(curve.y) == pytest.approx(values[:complete].mean())
    # Each point is the mean of its neighbours, at their middle.
    expected = values[:complete].reshape(-1, curve.merged).mean(1)
    np.testing.assert_allclose(curve.y, expected)
    np.testing.assert_allclose(curve.x, 10 * np.arange(complete).reshape(-1, curve.merged).mean(1))


def curve(values):
    filled = Curve()
    for i, value in enumerate(values):
        filled.add(i, value)
    return filled


def shape(path):
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return image.size


def test_draws_a_png_with_a_panel_a_group(tmp_path):
    path = tmp_path / 'curves.png'
    one = {'loss': {'pixel': curve([100.0, 10.0, 1.0]), 'kl': Curve()}}
    draw_curves(one, path)
    width, height = shape(path)
    draw_curves({**one, 'empty': {'x': Curve()}, 'none': {}}, path)
    assert shape(path) == (width, height)
    draw_curves({**one, 'PSNR': {'PSNR': curve([-1.0, 2.0])}}, path)
    assert shape(path)[0] == width
    assert shape(path)[1] > height
    assert [file.name for file in tmp_path.iterdir()] == ['curves.png']


def test_the_mark_is_drawn(tmp_path):
    panels = {'loss': {'pixel': curve([3.0, 2.0, 1.0])}}
    pictures = []
    for mark in (None, (1, 'discriminator starts')):
        draw_curves(panels, tmp_path / 'curves.png', mark)
        pictures.append(np.asarray(Image.open(tmp_path / 'curves.png')).astype(int))
    changed = np.abs(pictures[0] - pictures[1]).sum(2) > 0
    assert 0 < changed.mean() < 0.05


def test_nothing_to_draw_yet(tmp_path):
    draw_curves({'loss': {}}, tmp_path / 'curves.png')
    assert shape(tmp_path / 'curves.png')[0] > 100


@pytest.mark.parametrize('value', [25.1234, 0.0, 1e-6])
def test_one_point_has_an_axis_that_can_be_read(tmp_path, monkeypatch, value):
    figures = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *args, **options: figures.append(figure))
    draw_curves({'a': {'PSNR': curve([value])}}, tmp_path / 'curves.png')
    axes, = figures[0].axes
    assert axes.get_xlim() == (-1, 1)
    low, high = axes.get_ylim()
    assert low < value < high
    assert [float(tick).is_integer() for tick in axes.get_xticks()] == [True] * len(axes.get_xticks())
    assert not axes.yaxis.get_major_formatter().get_useOffset()
