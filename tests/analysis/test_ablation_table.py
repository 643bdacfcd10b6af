import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from wfvae_toolkit.analysis.ablation import Run
from wfvae_toolkit.analysis.ablation_table import (
    MARKS,
    Size,
    collect,
    describe,
    fill,
    format_markdown,
    measure_sizes,
    write_table,
)
from wfvae_toolkit.evaluation.statistics import paired_difference
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.config import load_config

TINY = str(Path(__file__).resolve().parents[1] / 'data/configs/tiny.py')
IMAGES = 12
SIZES = dict.fromkeys(('base', 'better', 'other', 'none'), Size(2_345_678, 9_870_000_000))


@pytest.fixture
def make_runs(tmp_path):
    """{(name, seed): values of PSNR by image, or None} -> runs, finished where there are values."""
    def make(values, paths=None):
        runs = []
        for (name, seed), measured in values.items():
            folder = tmp_path / name / f'seed_{seed}'
            (folder / 'evaluation').mkdir(parents=True)
            row = dict(phase='train', iteration=4, seconds_per_iteration=2.0 + seed, peak_memory_gib=0.5 + seed)
            (folder / 'log.jsonl').write_text(json.dumps(row) + '\n')
            if measured is not None:
                (folder / 'evaluation/summary.json').write_text(json.dumps(
                    {'metrics': {'PSNR': {'higher_is_better': True}, 'raw/PSNR': {'higher_is_better': True}}}))
                with open(folder / 'evaluation/metrics.csv', 'w', newline='') as file:
                    writer = csv.writer(file)
                    writer.writerow(['path', 'PSNR', 'raw/PSNR'])
                    writer.writerows([path, value, 0.0] for path, value in zip(
                        paths or [f'{i}.png' for i in range(len(measured))], measured, strict=True))
            runs.append(Run(TINY, name, seed, 4, folder, {}, {}))
        return runs
    return make


@pytest.fixture
def study(make_runs):
    """Two configs with two seeds: images differ by much, configs by little."""
    generator = np.random.default_rng(0)
    image = 25 + 5 * generator.standard_normal(IMAGES)
    values = {(name, seed): (image + gain + 0.1 * generator.standard_normal(IMAGES)).tolist()
              for name, gain in (('base', 0.0), ('better', 0.2)) for seed in (0, 1)}
    return make_runs(values), values


# the statistic

def test_interval_is_that_of_the_paired_t_test(study):
    runs, values = study
    base, better = (np.mean([values[name, seed] for seed in (0, 1)], axis=0) for name in ('base', 'better'))
    score = collect(runs, SIZES).rows[1].scores['PSNR']
    test = stats.ttest_rel(better, base)
    low, high = test.confidence_interval(0.95)
    assert score.difference == pytest.approx((low + high) / 2, rel=1e-9)
    assert score.ci95 == pytest.approx((high - low) / 2, rel=1e-9)
    # A difference of 0.2 dB is seen although images spread by 5 dB, which an unpaired test would not.
    assert score.difference - score.ci95 > 0
    assert stats.ttest_ind(better, base).pvalue > 0.5


def test_interval_agrees_with_a_bootstrap_over_images():
    generator = np.random.default_rng(1)
    base = generator.normal(25, 5, 60)
    other = base + generator.normal(0.3, 0.5, 60)
    ours = paired_difference(base, other)
    found = stats.bootstrap((other - base,), np.mean, n_resamples=5000, rng=2, method='percentile')
    low, high = found.confidence_interval
    assert ours['mean'] - ours['ci95'] == pytest.approx(low, abs=0.03)
    assert ours['mean'] + ours['ci95'] == pytest.approx(high, abs=0.03)


def test_interval_covers_the_truth_19_times_in_20():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(1000):
        base = generator.normal(25, 5, 8)
        ours = paired_difference(base, base + generator.normal(0.3, 0.5, 8))
        covered += abs(ours['mean'] - 0.3) < ours['ci95']
    assert covered == pytest.approx(950, abs=3 * math.sqrt(1000 * 0.95 * 0.05))


def test_equal_values_differ_by_nothing_even_infinite_ones():
    assert paired_difference([math.inf, 1.0], [math.inf, 1.0])['mean'] == 0
    partly = paired_difference([20.0, 21.0, 22.0], [21.0, math.inf, 23.0])
    assert (partly['mean'], partly['infinite']) == (1.0, 1)


# the rows

def test_a_score_of_the_whole_set_has_a_difference_and_no_interval(study):
    runs, _ = study
    for run in runs:
        path = run.folder / 'evaluation/summary.json'
        summary = json.loads(path.read_text())
        pooled = {'base': 20.0, 'better': 21.0}[run.name] + run.seed
        summary['metrics']['pooled'] = {'higher_is_better': True, 'mean': pooled, 'images': IMAGES}
        summary['metrics']['undefined'] = {'higher_is_better': None, 'mean': None, 'images': IMAGES}
        path.write_text(json.dumps(summary))
    table = collect(runs, SIZES)
    score = table.rows[1].scores['pooled']
    assert (score.mean, score.difference, score.ci95) == (21.5, 1.0, None)
    assert table.rows[1].scores['PSNR'].ci95 > 0
    assert 'undefined' not in table.rows[1].scores
    assert table.images == IMAGES
    assert '| 21.50 ± 0.707 | +1.000 |' in format_markdown(table)
    assert 'A Δ without an interval is that of a score of the whole set.' in describe(table, [0, 1], 'command')


def test_a_score_of_the_whole_set_with_blocks_is_paired_by_them(study):
    """Blocks differ by much, and the two configs by 1 in each of them."""
    runs, _ = study
    for run in runs:
        path = run.folder / 'evaluation/summary.json'
        summary = json.loads(path.read_text())
        gain = {'base': 0.0, 'better': -1.0}[run.name]
        blocks = [5.0 * block + gain + 0.1 * (block % 2) * gain + run.seed for block in range(10)]
        summary['metrics']['FD'] = {'higher_is_better': False, 'mean': 30.0 + gain + run.seed, 'blocks': blocks}
        path.write_text(json.dumps(summary))
    score = collect(runs, SIZES).rows[1].scores['FD']
    assert score.difference == pytest.approx(-1.0)
    expected = stats.sem([-1.0 - 0.1 * (block % 2) for block in range(10)]) * stats.t.ppf(0.975, 9)
    assert score.ci95 == pytest.approx(expected)


def test_an_interval_needs_five_images(make_runs):
    table = collect(make_runs({(name, 0): [20.0, 21.0, 22.5, 23.0 + gain] for name, gain in (
        ('base', 0.0), ('better', 0.2))}), SIZES)
    assert table.rows[1].scores['PSNR'].difference == pytest.approx(0.05)
    assert '| +0.050 |' in format_markdown(table)
    assert 'A Δ has no interval: that needs 5 images or more.' in describe(table, [0], 'command')


def test_a_row_has_means_spread_sizes_and_the_worst_cost(study):
    runs, values = study
    table = collect(runs, SIZES)
    base, better = table.rows
    assert (base.name, base.seeds, base.iterations, table.images) == ('base', [0, 1], 4, IMAGES)
    means = [np.mean(values['better', seed]) for seed in (0, 1)]
    assert better.scores['PSNR'].mean == pytest.approx(np.mean(means))
    assert better.scores['PSNR'].std == pytest.approx(np.std(means, ddof=1))
    assert (base.scores['PSNR'].difference, base.scores['PSNR'].ci95) == (None, None)
    assert (base.seconds, base.memory_gib) == (12.0, 1.5)
    assert list(table.directions) == ['PSNR']  # raw weights are not compared


def test_sizes_are_those_of_the_autoencoder(make_runs):
    run, = make_runs({('base', 0): None})
    size = measure_sizes([run])['base']
    autoencoder = AUTOENCODERS.build(load_config(TINY).model.autoencoder)
    assert size.parameters == sum(parameter.numel() for parameter in autoencoder.parameters())
    assert size.flops > 2 * size.parameters  # every weight is used at many places
    run.scoring = {'model.autoencoder.latent_channels': 0}
    with pytest.raises(ValueError, match=r'tiny\.py: latent_channels=0: a positive integer is needed'):
        measure_sizes([run])


def test_only_seeds_that_both_have_make_a_difference(make_runs):
    table = collect(make_runs({('base', 0): [1.0, 2.0], ('base', 1): [50.0, 60.0], ('other', 0): [2.0, 3.0],
                               ('other', 1): None, ('none', 0): None, ('none', 1): None}), SIZES)
    _, other, none = table.rows
    assert other.scores['PSNR'].difference == 1.0
    assert (other.seeds, other.scores['PSNR'].std) == ([0], None)
    assert (none.seeds, none.scores, none.seconds) == ([], {}, None)
    assert '| `none` | – | – | 0 | 4 |' in format_markdown(table)


def test_a_study_without_a_finished_base_has_no_differences(make_runs):
    table = collect(make_runs({('base', 0): None, ('other', 0): [2.0, 3.0]}), SIZES)
    assert table.rows[1].scores['PSNR'].difference is None


def test_other_images_are_refused(make_runs):
    runs = make_runs({('base', 0): [1.0, 2.0]}) + make_runs({('other', 0): [1.0, 2.0]}, paths=['x.png', 'y.png'])
    with pytest.raises(ValueError, match='other, seed 0: its images differ'):
        collect(runs, SIZES)


# the files

def test_markdown_csv_and_picture_say_the_same(study, tmp_path):
    table = collect(study[0], SIZES)
    note = describe(table, [0, 1], 'python tools/ablate.py a b')
    text = write_table(table, note, tmp_path)
    assert (tmp_path / 'ablation.md').read_text(encoding='utf-8') == text
    header, dashes, base, better, *_ = text.splitlines()
    assert header == ('| config | PSNR ↑ | Δ PSNR | seeds | updates | parameters, M | GFLOP | training, s | '
                      'memory, GiB |')
    assert len({line.count('|') for line in (header, dashes, base, better)}) == 1
    score = table.rows[1].scores['PSNR']
    difference = f'{score.difference:+.3f} ± {score.ci95:.3f}'
    assert f'| {score.mean:.2f} ± {score.std:.3f} | {difference} | 2 | 4 | 2.35 | 9.9 | 12 | 1.50 |' in better
    assert f'{IMAGES} images, seeds 0 1.' in text
    with open(tmp_path / 'ablation.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [float(row['PSNR']) for row in rows] == [row.scores['PSNR'].mean for row in table.rows]
    assert float(rows[1]['PSNR_ci95']) == score.ci95
    assert rows[0]['PSNR_difference'] == ''
    with Image.open(tmp_path / 'ablation.png') as picture:
        assert picture.format == 'PNG'


def test_nothing_finished_is_a_table_too(make_runs, tmp_path):
    text = write_table(collect(make_runs({('base', 0): None}), SIZES), 'note', tmp_path)
    assert '| `base` | 0 | 4 |' in text
    assert not (tmp_path / 'ablation.png').exists()


def test_a_table_goes_between_the_marks_again_and_again(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(f'# Page\n\n{MARKS[0]}\n{MARKS[1]}\nend ÄΔ\n', encoding='utf-8')
    for text in ('first', 'second\n'):
        fill(page, text)
    assert page.read_text(encoding='utf-8') == f'# Page\n\n{MARKS[0]}\n\nsecond\n\n{MARKS[1]}\nend ÄΔ\n'
    page.write_text('no marks')
    with pytest.raises(ValueError, match=r'page\.md: needs one line <!-- ablation table -->'):
        fill(page, 'text')
