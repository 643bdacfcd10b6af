import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.datasets.odd_files import display_p3
from wfvae_toolkit.datasets import fixed_pipeline
from wfvae_toolkit.datasets.preparations import ADMCrop
from wfvae_toolkit.evaluation import (
    NothingScored,
    ReconstructionEvaluator,
    compare_by_protocols,
    compare_folders,
    describe_worst,
    worst_images,
)
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture
def folders(tmp_path):
    """('real', 'made'): a.png and deep/b.bmp as JPEG-free pictures of different sizes, and noisy copies as PNG."""
    generator = np.random.default_rng(0)
    for name, size in [('a.webp', (20, 24)), ('deep/b.bmp', (32, 16))]:
        pixels = generator.integers(0, 200, (*size, 3), np.uint8)
        noisy = pixels + generator.integers(0, 50, pixels.shape, np.uint8)
        for place, content, path in [('real', pixels, name), ('made', noisy, name.rpartition('.')[0] + '.png')]:
            path = tmp_path / place / path
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path, lossless=True)
    return tmp_path / 'real', tmp_path / 'made'


def compare(*folders, **options):
    evaluator = ReconstructionEvaluator(dict(PSNR=dict(type='PSNR'), SSIM=dict(type='SSIM')))
    return compare_folders(*folders, evaluator, torch.device('cpu'), **options)


def test_the_tool_takes_the_metrics_of_a_config(folders, tool, tmp_path, capsys):
    config = tmp_path / 'metrics.py'
    config.write_text("val_evaluator = dict(type='ReconstructionEvaluator', metrics=dict("
                      "PSNR=dict(type='PSNR'), pooled=dict(type='PooledPSNR')))\n", encoding='utf-8')
    tool('compare_folders')(*folders, '--metrics', config, '--workers', 0)
    table = capsys.readouterr().out
    assert re.search(r'^PSNR ↑ +\d+\.\d+$', table, re.MULTILINE)
    assert re.search(r'^pooled ↑ +\d+\.\d+ \(whole set of 2\)$', table, re.MULTILINE)
    assert 'SSIM' not in table


def test_protocols_make_the_squares_of_both_folders(folders, tool, tmp_path, capsys):
    """Reconstructions that have the size already stay as they are."""
    summaries = compare_by_protocols(*folders, {name: ReconstructionEvaluator(
        dict(PSNR=dict(type='PSNR')), protocol=name, resolution=22) for name in ('rae', 'va-vae')}, torch.device('cpu'))
    assert summaries['rae'].protocol['pipeline'].endswith('to 22 px')
    assert 'clipped and rounded to 8 bits before' in summaries['va-vae'].protocol['reconstructions']
    assert summaries['rae'].metrics['PSNR']['mean'] != summaries['va-vae'].metrics['PSNR']['mean']
    squares = tmp_path / 'squares'
    for made in folders[1].rglob('*.png'):
        place = squares / made.relative_to(folders[1])
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels, _ = ADMCrop(22)(Image.open(made))
        Image.fromarray(((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(place)
    tool('compare_folders')(folders[0], squares, '--protocol', 'rae', 'dc-ae', '--resolution', 22, '--workers', 0,
                            '--work-dir', tmp_path / 'out')
    found = json.loads((tmp_path / 'out/rae/summary.json').read_text())
    assert found['metrics']['PSNR']['mean'] == pytest.approx(summaries['rae'].metrics['PSNR']['mean'], abs=1e-9)
    assert (tmp_path / 'out/dc-ae/pictures/a.png').is_file()
    assert re.search(r'^metric +rae +dc-ae$', capsys.readouterr().out, re.MULTILINE)


def test_pairs_agree_with_scikit_image(folders):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    summary = compare(*folders)
    assert [row['path'] for row in summary.rows] == ['a.webp', 'deep/b.bmp']
    for row, made in zip(summary.rows, ['a.png', 'deep/b.png'], strict=True):
        real, noisy = (np.asarray(Image.open(path)) for path in (folders[0] / row['path'], folders[1] / made))
        assert row['PSNR'] == pytest.approx(peak_signal_noise_ratio(real, noisy))
        assert row['SSIM'] == pytest.approx(structural_similarity(
            real, noisy, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False), abs=1e-6)


def test_a_folder_against_itself_is_perfect(folders):
    metrics = compare(folders[0], folders[0]).metrics
    assert metrics['PSNR']['infinite'] == 2
    assert metrics['SSIM']['mean'] == pytest.approx(1)


def test_pictures_without_a_partner_stop_it_and_are_listed_by_side(folders):
    (folders[0] / 'a.webp').rename(folders[0] / 'x.webp')
    with pytest.raises(SettingError, match=r'only among the real: 1 \(x.webp\); only among the reconstructed: 1 '
                                           r'\(a.png\); nothing is computed: --allow-unmatched scores the 1 pairs'):
        compare(*folders)
    summary = compare(*folders, allow_unmatched=True)
    assert summary.images == 1
    assert (summary.protocol['only_real'], summary.protocol['only_reconstructed']) == (1, 1)
    (folders[1] / 'deep/b.png').rename(folders[1] / 'b.png')
    with pytest.raises(SettingError, match='no relative path is in both'):
        compare(*folders, allow_unmatched=True)


def test_an_original_beside_its_reconstruction_is_no_stray(folders):
    Image.new('RGB', (4, 4)).save(folders[1] / 'a.original.png')
    assert compare(*folders).images == 2
    Image.new('RGB', (4, 4)).save(folders[1] / 'z.original.png')
    with pytest.raises(SettingError, match=r'only among the reconstructed: 1 \(z.original.png\)'):
        compare(*folders)


def test_two_pictures_of_one_stem_cannot_be_paired(folders):
    Image.new('RGB', (4, 4)).save(folders[0] / 'a.png')
    with pytest.raises(SettingError, match=r'a\.png and a\.webp differ only in their suffix'):
        compare(*folders)


def test_a_dot_inside_a_name_is_no_suffix(tmp_path):
    for place in ('real', 'made'):
        (tmp_path / place).mkdir()
        for name in ('v1.0.png', 'v1.1.png'):
            Image.new('RGB', (16, 16)).save(tmp_path / place / name)
    assert compare(tmp_path / 'real', tmp_path / 'made').images == 2


def test_two_sizes_are_named_and_a_crop_mends_them(folders):
    Image.new('RGB', (24, 30)).save(folders[1] / 'a.png')
    with pytest.raises(SettingError, match='a.webp: the real one has 24x20 px, the reconstructed one 24x30; '
                                           '--resolution or --crop'):
        compare(*folders)
    summary = compare(*folders, pipeline=fixed_pipeline(crop=16))
    assert summary.images == 2
    assert summary.protocol['pipeline'] == 'CenterCrop(size=16)'


def test_what_cannot_be_read_is_skipped_with_its_side(folders):
    (folders[1] / 'a.png').write_bytes(b'')
    summary = compare(*folders)
    assert summary.skipped == [{'path': 'a.webp', 'reason': 'the reconstructed one: zero bytes'}]
    assert [row['path'] for row in summary.rows] == ['deep/b.bmp']
    with pytest.raises(NothingScored, match='none of the 1 pictures could be scored; a.webp: the reconst'):
        compare(*folders, max_images=1)


def test_a_pair_too_small_for_a_metric_is_skipped_with_its_size(folders):
    for place, name in zip(folders, ('a.webp', 'a.png'), strict=True):
        Image.new('RGB', (1, 1)).save(place / name)
    summary = compare(*folders)
    assert summary.skipped == [{'path': 'a.webp', 'reason': '1x1 px: SSIM takes images of at least 11x11 px'}]
    assert [row['path'] for row in summary.rows] == ['deep/b.bmp']


def test_the_worst_pairs_are_named_and_kept(folders, tmp_path):
    Image.open(folders[0] / 'a.webp').save(folders[1] / 'a.png')
    for _ in range(2):  # again into the same folder
        summary = compare(*folders, keep=tmp_path)
    assert worst_images(summary, 1)['PSNR'] == [('deep/b.bmp', summary.rows[1]['PSNR'])]
    assert describe_worst(summary)[0].startswith('worst PSNR: deep/b.bmp ')
    kept = json.loads((tmp_path / 'pictures.json').read_text(encoding='utf-8'))
    assert kept == {'a.webp': 'pictures/a.png', 'deep/b.bmp': 'pictures/deep/b.png'}
    with Image.open(tmp_path / kept['deep/b.bmp']) as shown, Image.open(folders[1] / 'deep/b.png') as made:
        assert shown.crop((20, 0, 36, 32)).tobytes() == made.tobytes()


def test_colours_and_enlarged_pictures_are_in_the_protocol(folders):
    Image.open(folders[0] / 'a.webp').save(folders[0] / 'a.webp', lossless=True, icc_profile=display_p3())
    plain, converted = (compare(*folders, convert_to_srgb=convert) for convert in (False, True))
    assert plain.protocol['colour_profiles'] == '1 Display P3 (not converted)'
    assert converted.protocol['colour_profiles'] == '1 Display P3 (converted to sRGB)'
    assert plain.rows[0]['PSNR'] != converted.rows[0]['PSNR']
    assert compare(*folders, pipeline=fixed_pipeline(crop=18)).protocol['enlarged'].startswith('2 of 4 pictures')
