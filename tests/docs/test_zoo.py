"""docs/zoo.md: what it says of configs and packages is so."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/zoo.md').read_text(encoding='utf-8')
RECIPE = sorted((ROOT / 'configs/zoo/recipe').glob('*.py'))


def parameters_m(path):
    """Millions, of encoder and decoder."""
    with torch.device('meta'):
        autoencoder = AUTOENCODERS.build(load_config(path).model.autoencoder)
    assert autoencoder.downsample_factor == 8
    assert autoencoder.latent_channels == 8
    return sum(p.numel() for p in autoencoder.parameters()) / 1e6


@pytest.mark.parametrize('path', RECIPE, ids=lambda path: path.stem)
def test_each_recipe_is_told_with_its_parameters_and_at_most_3_million(path):
    told = re.search(rf'^\| `{re.escape(path.stem)}` \| .* \| (\d\.\d\d) \|$', PAGE, re.MULTILINE)
    assert float(told[1]) == pytest.approx(parameters_m(path), abs=0.005)
    assert parameters_m(path) <= 3


@pytest.mark.parametrize('name', ['wfvae2_tiny', 'wfvae2_tiny_256'])
def test_the_trained_network_and_its_mixture(name):
    path = ROOT / f'configs/zoo/{name}.py'
    assert f'{parameters_m(path):.2f} M parameters' in PAGE
    cfg = load_config(path)
    weights = {source: row['weight'] for source, row in cfg.train_dataloader.dataset.sources.items()}
    assert {source: weight / sum(weights.values()) for source, weight in weights.items()} == pytest.approx(
        {'scenes': 0.6, 'surfaces': 0.2, 'sky': 0.1, 'text': 0.1})
    crop = cfg.train_dataloader.dataset.pipeline[0]['size']
    pixels = cfg.train_cfg.max_iters * cfg.train_dataloader.batch_size * crop**2 / 1e9
    assert re.search(rf'\({pixels:.2f}( gigapixels)?\)', PAGE)


def test_the_table_of_packages_is_the_one_that_is_used():
    with open(ROOT / 'configs/zoo/packages.csv', encoding='utf-8', newline='') as file:
        rows = {row['package']: row for row in csv.DictReader(file)}
    told = re.findall(r'^\| `([a-z0-9.-]+)` \| (training, )?(scenes|surfaces|sky|scores) \|', PAGE, re.MULTILINE)
    assert {package for package, *_ in told} == set(rows)
    for package, training, kind in told:
        assert rows[package]['split'] == ('train' if training else 'val')
        assert rows[package]['kind'] == (kind if training else 'scenes')


def test_the_counts_add_up():
    counts = re.findall(r'^\| .* \| (training|scores).* \| (\d+) \| (\d+) \|', PAGE, re.MULTILINE)
    totals = {split: sum(int(kept) for row, _, kept in counts if row == split) for split in ('training', 'scores')}
    assert f'{totals["training"]} pictures to train on, {totals["scores"]} for scores' in PAGE
    assert totals['training'] >= 500
    assert totals['scores'] >= 60


def test_every_picture_is_credited_under_a_free_licence():
    with open(ROOT / 'configs/zoo/credits.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    credited = Counter()
    for row in rows:
        assert int(row['count']) == len(row['pictures'].split())
        assert row['credit']
        assert re.fullmatch(r'CC0-1\.0|CC-BY(-SA)?-[1-4]\.\d|GPL-[23]\+?|GFDL-1\.2|Expat|public domain|'
                            'free use( with credit)?|no known copyright restrictions', row['licence'])
        credited[row['package'].replace('scikit-learn', 'scikit-image')] += int(row['count'])
    told = re.findall(r'^\| `?([a-z0-9.-]+)`?.* \| (?:training|scores).* \| \d+ \| (\d+) \|', PAGE, re.MULTILINE)
    assert credited == {package: int(kept) for package, kept in told}


def test_the_page_counts_the_licences_of_the_training_pictures():
    kinds = {'ask for nothing': ('CC0', 'public', 'no known', 'free use', 'Expat'), 'ask for credit (': ('CC-BY-',),
             'ask for credit and': ('CC-BY-SA',), 'ask for the same': ('GPL', 'GFDL')}
    counts = Counter()
    with open(ROOT / 'configs/zoo/credits.csv', encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file):
            if re.search(rf'^\| `?{row["package"]}`?.* \| training', PAGE, re.MULTILINE) or 'scikit' in row['package']:
                kind = max((start, kind) for kind, starts in kinds.items() for start in starts
                           if row['licence'].startswith(start))[1]
                counts['ask for credit (' if row['licence'].endswith('with credit') else kind] += int(row['count'])
    for kind, count in counts.items():
        assert f'- {count} {kind}' in PAGE
    assert f'{sum(counts.values())} pictures to train on' in PAGE
