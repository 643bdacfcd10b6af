"""Every code keeps the picture's size and no more values or bytes than the latents have."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from wfvae_toolkit.analysis.linear_code import draw_pictures
from wfvae_toolkit.analysis.yardsticks import FORMATS, fit_bytes, make_code, measure_code, reduce_and_enlarge
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture(scope='module')
def pictures():
    return draw_pictures(dict(type='SyntheticImages', length=12, size=64))


@pytest.fixture(scope='module')
def picture(pictures):
    return Image.fromarray(((pictures[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def error(one, other):
    return np.square(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean()


@pytest.mark.parametrize('name', ['pca', 'bicubic', 'jpeg', 'webp'])
def test_a_code_keeps_size_and_mode_and_gains_from_more_values(name, pictures, picture):
    few, many = (make_code(name, channels, 4, pictures)(picture) for channels in (8, 24))
    assert few.size == many.size == picture.size
    assert few.mode == 'RGB'
    assert 0 < error(many, picture) < error(few, picture)


def test_bicubic_goes_through_a_copy_of_no_more_values(picture, monkeypatch):
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, 'resize', lambda image, size, *rest: (
        sizes.append(size) or resize(image, size, *rest)))
    reduce_and_enlarge(picture, 8 * 64 * 64 // 64)
    assert sizes == [[13, 13], (64, 64)]
    assert 3 * 13 * 13 <= 512 < 3 * 14 * 14


@pytest.mark.parametrize('name', FORMATS)
def test_a_file_has_the_best_quality_that_fits(name, picture):
    form, options = FORMATS[name]

    def bytes_of(quality):
        file = io.BytesIO()
        picture.save(file, form, quality=quality, **options)
        return len(file.getvalue())

    fitting = [quality for quality in range(1, 101) if bytes_of(quality) <= 2000]
    assert len(fit_bytes(picture, form, options, 2000)) == bytes_of(fitting[-1])
    with pytest.raises(SettingError, match='at the lowest quality; the latents have 100'):
        fit_bytes(picture, form, options, 100)


def test_the_result_can_be_read_as_that_of_a_network(tmp_path):
    cfg = load_config('wfvae_toolkit::zoo/wfvae2_tiny.py', {
        'train_dataloader.dataset': dict(type='SyntheticImages', length=8, size=64),
        'val_dataloader.dataset': dict(type='SyntheticImages', length=2, size=64, seed=1),
        'val_evaluator.metrics.STLPIPS': None, 'val_evaluator.metrics.LPIPS': None})
    summary = measure_code(cfg, 'pca', 64, tmp_path, train_pictures=8)
    assert summary.images == 2
    assert math.isfinite(summary.metrics['PSNR']['mean'])
    assert {path.name for path in tmp_path.iterdir()} == {'summary.json', 'metrics.csv', 'pictures', 'pictures.json'}
    with pytest.raises(SettingError, match='60 px: use a multiple of 8'):
        measure_code(cfg, 'pca', 60, tmp_path)


def test_an_unknown_code_is_refused():
    with pytest.raises(SettingError, match="'png': the codes are pca, bicubic, jpeg, webp"):
        make_code('png', 8, 8)
