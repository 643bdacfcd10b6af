"""Fréchet distance, kernel distance, precision and recall as rows of an evaluation, on one rank and on two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import distributed

from tests.helpers import TinyFeatures, save_random_inception
from wfvae_toolkit.evaluation import EvaluationBatch, ReconstructionEvaluator, format_table
from wfvae_toolkit.evaluation.set_statistics import Moments, frechet_distance, kernel_distance
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_torch_fidelity

TINY = 'tests.helpers.TinyFeatures'
COUNT = 31
ROWS = dict(fd=dict(type='FrechetDistance', features=TINY), sums=dict(type='FrechetDistance', features=TINY,
                                                                     interval=False),
            kd=dict(type='KernelDistance', features=TINY, subsets=4, subset_size=12),
            pr=dict(type='PrecisionRecall', features=TINY))


def pair(index):
    generator = torch.Generator().manual_seed(index)
    target = torch.rand(3, 22, 22, generator=generator) * 2 - 1
    return target, (target + 0.4 * torch.randn(3, 22, 22, generator=generator)).clamp(-1, 1)


def feed(evaluator, indices, batch_size=1, weights=('',)):
    evaluator.begin('made up')
    for start in range(0, len(indices), batch_size):
        chunk = list(indices[start:start + batch_size])
        targets, made = map(torch.stack, zip(*map(pair, chunk), strict=True))
        for name in weights:
            evaluator.process(name, chunk, list(map(str, chunk)), targets, made * 0.9 if name else made)
    return evaluator


def features():
    """Of all targets and of all reconstructions, rounded to 8 bits as the default protocol does."""
    images = [torch.stack(images) for images in zip(*map(pair, range(COUNT)), strict=True)]
    return [TinyFeatures()((image * 127.5 + 127.5).round().byte()).float() for image in images]


@pytest.fixture(scope='module')
def summary():
    return feed(ReconstructionEvaluator(ROWS), range(COUNT), 4, ('', 'raw')).summarize()


def test_scores_are_those_of_the_features_of_all_images(summary):
    real, made = features()
    expected = frechet_distance(Moments.of_rows(real), Moments.of_rows(made))
    metrics = summary.metrics
    assert metrics['fd']['mean'] == pytest.approx(expected, abs=1e-9)
    assert metrics['sums']['mean'] == pytest.approx(expected, abs=1e-9)
    assert metrics['raw/fd']['mean'] > metrics['fd']['mean']
    assert metrics['kd']['blocks'][2] == pytest.approx(kernel_distance(real[2::10], made[2::10]), abs=1e-9)
    assert 0 <= metrics['pr.precision']['mean'] <= 1


def test_intervals_come_from_ten_blocks(summary):
    assert [len(summary.metrics[name].get('blocks', ())) for name in ('fd', 'kd', 'sums')] == [10, 10, 0]
    assert summary.metrics['fd']['ci95'] > 0
    assert summary.metrics['sums']['ci95'] is None
    few = feed(ReconstructionEvaluator(ROWS), range(12)).summarize().metrics
    assert few['fd']['ci95'] is None
    assert 'blocks' not in few['kd']


def test_too_few_images_are_said_beside_the_score(summary):
    far = 'not comparable with published figures: below 10,000 images'
    assert summary.metrics['fd']['notes'] == [far]
    small = feed(ReconstructionEvaluator(ROWS), range(5)).summarize()
    assert small.metrics['fd']['notes'] == ['rank-deficient: no more than 6 images', far]
    assert 'subsets of all 5 images: fewer than 12' in small.metrics['kd']['notes']
    lines = format_table(small).splitlines()
    assert any(line.startswith('fd ↓') and line.endswith('(whole set of 5)') for line in lines)
    assert lines.count(f'fd: rank-deficient: no more than 6 images; {far}') == 1
    one = feed(ReconstructionEvaluator(ROWS), range(1)).summarize().metrics
    assert one['kd']['nan'] == one['pr.recall']['nan'] == 1


def test_features_are_computed_once_for_all_metrics(monkeypatch):
    calls, forward = [], TinyFeatures.forward

    def counted(self, images):
        calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(TinyFeatures, 'forward', counted)
    feed(ReconstructionEvaluator(ROWS), range(3), 3)
    assert calls == [3, 3]


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_fid_kid_and_precision_equal_torch_fidelity_s_of_saved_pictures(tmp_path):
    """Of 64 features, as 70 images do not give 2048 a covariance; random weights."""
    weights, count = str(save_random_inception(tmp_path / 'inception.pth')), 70
    options = dict(features='inception', weights=weights, layer='64')
    evaluator = ReconstructionEvaluator({
        'FID': dict(type='FrechetDistance', **options), 'PR': dict(type='PrecisionRecall', **options),
        'KID': dict(type='KernelDistance', subsets=10, subset_size=40, **options)})
    folders = [tmp_path / name for name in ('real', 'made')]
    for folder in folders:
        folder.mkdir()
    for number in range(count):
        for folder, image in zip(folders, pair(number), strict=True):
            pixels = (image * 127.5 + 127.5).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / f'{number:03}.png')
    found = feed(evaluator, range(count), 10).summarize().metrics
    expected = import_torch_fidelity('metrics').calculate_metrics(
        input1=str(folders[1]), input2=str(folders[0]), fid=True, kid=True, prc=True, cuda=False, verbose=False,
        feature_layer_fid='64', feature_layer_kid='64', feature_layer_prc='64', kid_subsets=10, kid_subset_size=40,
        feature_extractor='inception-v3-compat', feature_extractor_weights_path=weights, cache=False, batch_size=10)
    assert found['FID']['mean'] == pytest.approx(expected['frechet_inception_distance'], abs=1e-6)
    assert found['KID']['mean'] == pytest.approx(expected['kernel_inception_distance_mean'], abs=1e-6)
    for name in ('precision', 'recall'):
        assert found[f'PR.{name}']['mean'] == pytest.approx(expected[name], abs=1e-6)


# the reference

def reference(path, **settings):
    return ReconstructionEvaluator({'fd': dict(type='FrechetDistance', features=TINY, reference=str(path), **settings)})


@pytest.mark.parametrize('interval', [True, False])
def test_statistics_of_the_real_set_are_written_once_and_then_read(tmp_path, summary, interval):
    path = tmp_path / 'real.npz'
    first = feed(reference(path, interval=interval), range(COUNT)).summarize()
    assert first.metrics['fd']['mean'] == pytest.approx(summary.metrics['fd']['mean'], abs=1e-9)
    second = feed(reference(path, interval=interval), range(COUNT)).summarize()
    assert second.metrics['fd']['mean'] == pytest.approx(first.metrics['fd']['mean'], abs=1e-9)
    assert second.metrics['fd']['notes'][-1] == f'reference of {COUNT} images'
    assert 'to the statistics in real.npz' in second.protocol['fd']


def test_a_reference_that_was_made_in_another_way_stops_the_evaluation_at_its_start(tmp_path):
    path = tmp_path / 'real.npz'
    feed(reference(path), range(COUNT)).summarize()
    evaluator = reference(path)
    with pytest.raises(SettingError, match=r"metrics\.fd: .*pipeline is 'made up' there and 'another' here"):
        evaluator.begin('another')


# names and weights

@pytest.mark.parametrize('name', ['FID', 'rFID', 'kid', 'FDD'])
def test_a_known_name_needs_its_own_features(name):
    with pytest.raises(SettingError, match=rf"metrics\.{name}: '{name}': .* another name, such as FD_stlpips-alex"):
        ReconstructionEvaluator({name: dict(type='FrechetDistance', features='stlpips-alex')})


def test_an_optional_row_without_weights_is_listed(tmp_path):
    row = dict(type='FrechetDistance', weights=str(tmp_path / 'absent.pth'), optional=True)
    evaluator = ReconstructionEvaluator({'FID': row})
    assert 'absent.pth' in evaluator.not_computed['FID']


def test_images_below_the_network_s_size_are_named():
    evaluator = ReconstructionEvaluator({'fd': dict(type='FrechetDistance', features='stlpips-alex')})
    batch = EvaluationBatch(torch.zeros(1, 3, 8, 9), torch.zeros(1, 3, 8, 9))
    with pytest.raises(ValueError, match='9x8 px: features of stlpips-alex need at least 21x21 px'):
        evaluator.metrics['fd'].metric.features_of(batch, 'target')


@pytest.mark.parametrize('row', [
    dict(type='KernelDistance', features=TINY, subset_size=1), dict(type='KernelDistance', features=TINY, subsets=0),
    dict(type='PrecisionRecall', features=TINY, neighbours=0)])
def test_a_number_that_cannot_be_is_refused(row):
    with pytest.raises(SettingError, match='whole number'):
        ReconstructionEvaluator({'x': row})


# ranks

@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path, summary):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), tmp_path], env=environment) for rank in range(2)]
    try:
        assert [process.wait(timeout=300) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    for rank in range(2):
        found = json.loads((tmp_path / f'{rank}.json').read_text())
        assert found.keys() == summary.metrics.keys()
        for column, entry in summary.metrics.items():
            assert found[column]['mean'] == pytest.approx(entry['mean'], rel=1e-9, abs=1e-9), column
            assert found[column].get('blocks', []) == pytest.approx(entry.get('blocks', []), rel=1e-9, abs=1e-9), column


def run_rank(rank, folder):
    distributed.init_process_group('gloo', store=distributed.FileStore(str(folder / 'store'), 2), rank=rank,
                                   world_size=2)
    metrics = feed(ReconstructionEvaluator(ROWS), range(rank, COUNT, 2), 4, ('', 'raw')).summarize().metrics
    (folder / f'{rank}.json').write_text(json.dumps(metrics))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == '__main__':
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
