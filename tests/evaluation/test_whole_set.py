"""Metrics that score all images at once, on one process and on two."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from wfvae_toolkit.evaluation import (
    Metric,
    PooledPSNR,
    ReconstructionEvaluator,
    UnfitPicture,
    WholeSetMetric,
    WholeSetScore,
    format_table,
    write_results,
)
from wfvae_toolkit.evaluation.psnr import squared_error
from wfvae_toolkit.utils.errors import SettingError

LENGTH = 11


class Channels(WholeSetMetric):
    """Covariance of the channels' errors (a sum), and a sum in which the order of the images matters (rows)."""

    higher_is_better = {'determinant': None, 'order': False}
    description = 'made up'

    def __init__(self):
        super().__init__()
        self.add_sum('products', 3, 3)
        self.add_rows('errors')

    def update(self, images, reconstructions):
        errors = (images - reconstructions).double().mean((2, 3))
        self.products += errors.T @ errors
        self.errors.append(errors.float())

    def compute(self):
        weights = 1 / torch.arange(1.0, len(self.errors) + 1).double()
        return {'determinant': WholeSetScore(self.products.det(), 0.25),
                'order': (weights[:, None] * self.errors.double()).sum()}


class LatentMean(WholeSetMetric):
    """Reads the latents of the batch."""

    higher_is_better = None
    description = 'made up'

    def __init__(self):
        super().__init__()
        self.add_sum('total')

    def update_batch(self, batch):
        self.total += batch.need('latents').double().sum()

    def compute(self):
        return self.total


class Refuses(Metric):
    """Cannot score images 3 and 4."""

    higher_is_better = True
    description = 'made up'

    def measure(self, batch):
        if '3' in batch.paths:
            raise UnfitPicture('too small')
        return batch.target.mean((1, 2, 3))


def pair(index):
    generator = torch.Generator().manual_seed(index)
    target = torch.rand(3, 6, 6, generator=generator) * 2 - 1
    return target, target + 0.05 * (index + 1) * torch.randn(3, 6, 6, generator=generator)


def feed(evaluator, indices, batch_size=1, weights=('', 'raw')):
    for start in range(0, len(indices), batch_size):
        chunk = list(indices[start:start + batch_size])
        targets, reconstructions = map(torch.stack, zip(*map(pair, chunk), strict=True))
        for name in weights:
            evaluator.process(name, chunk, list(map(str, chunk)), targets,
                              reconstructions.mul(0.9) if name else reconstructions)
    return evaluator


def build(**more):
    return ReconstructionEvaluator({'pooled': dict(type='PooledPSNR'), 'channels': dict(type=Channels), **more})


# state

def test_sums_and_rows_reach_compute_merged_and_in_the_order_of_the_dataset():
    shuffled = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0)).tolist()
    ordered = feed(build(), range(LENGTH)).summarize().metrics
    for batch_size in (1, 4):
        metrics = feed(build(), shuffled, batch_size).summarize().metrics
        assert list(metrics) == ['pooled', 'raw/pooled', 'channels.determinant', 'channels.order',
                                 'raw/channels.determinant', 'raw/channels.order']
        for column, entry in metrics.items():
            # A mean in float32 may be summed in another order in a larger batch.
            assert entry['mean'] == pytest.approx(ordered[column]['mean'], rel=1e-5 if batch_size > 1 else 1e-12)
    assert ordered['channels.determinant']['mean'] != ordered['raw/channels.determinant']['mean']


def test_a_reset_forgets_all_images():
    evaluator = feed(build(), [4, 5, 6])
    evaluator.reset()
    expected = feed(build(), [1, 2]).summarize().metrics
    assert feed(evaluator, [1, 2]).summarize().metrics == expected


def test_a_batch_that_another_metric_refuses_leaves_no_trace():
    evaluator = build(refuses=dict(type=Refuses))
    feed(evaluator, [0, 1, 2])
    with pytest.raises(UnfitPicture):
        feed(evaluator, [3, 4], batch_size=2)
    metrics = evaluator.summarize().metrics
    assert metrics['pooled']['images'] == metrics['channels.order']['images'] == 3
    assert metrics['pooled'] == feed(build(), [0, 1, 2]).summarize().metrics['pooled']


def test_an_image_counts_once():
    with pytest.raises(ValueError, match='image 2 was measured twice'):
        feed(build(), [2, 1, 2]).summarize()


def test_a_metric_may_read_the_whole_batch():
    evaluator = ReconstructionEvaluator({'latents': dict(type=LatentMean, higher_is_better=True)})
    images = torch.zeros(2, 3, 4, 4)
    with pytest.raises(SettingError, match='no latents here'):
        evaluator.process('', [0, 1], ['a', 'b'], images, images)
    evaluator.process('', [0, 1], ['a', 'b'], images, images, latents=torch.full((2, 4, 1, 1), 0.5))
    assert evaluator.summarize().metrics['latents']['mean'] == 4.0
    assert evaluator.higher_is_better('latents') is True


# what a metric does wrong is named

def made(**methods):
    def start(self):
        WholeSetMetric.__init__(self)
        self.add_sum('total')
        self.add_rows('rows')

    def update(self, images, reconstructions):
        self.rows.append(images[:, 0, 0, 0])
    return type('Mine', (WholeSetMetric,), {'higher_is_better': True, 'description': '', '__init__': start,
                                            'update': update, 'compute': lambda self: 1.0, **methods})


@pytest.mark.parametrize(('methods', 'message'), [
    (dict(update=lambda self, images, reconstructions: None), "Mine: update appended 0 rows to 'rows' for 1 images"),
    (dict(update=lambda self, images, reconstructions: setattr(self, 'total', 1.0)),
     "Mine: after update the state 'total' is a float; it was added as a float64 sum of shape"),
    (dict(update=lambda self, images, reconstructions: setattr(self, 'total', images.sum())),
     "the state 'total' is torch.float32 of shape"),
    (dict(compute=lambda self: 'much'), "Mine: compute returned 'much'; a number, a WholeSetScore or a dict"),
    (dict(compute=lambda self: {}), 'Mine: compute returned {}'),
    (dict(compute=lambda self: torch.ones(3)), 'Mine: compute returned tensor'),
    (dict(compute=lambda self: WholeSetScore(1.0, 'wide')), 'Mine: compute returned')])
def test_a_wrong_state_or_result_is_named(methods, message):
    evaluator = ReconstructionEvaluator({'mine': dict(type=made(**methods))})
    with pytest.raises(SettingError, match=message):
        feed(evaluator, [0]).summarize()


def test_a_state_needs_a_free_name():
    with pytest.raises(SettingError, match="'update' is taken already"):
        PooledPSNR().add_sum('update')
    with pytest.raises(SettingError, match="'moments' is taken already"):
        PooledPSNR().add_rows('moments')


# the pooled PSNR

def test_pooled_psnr_is_that_of_one_large_image():
    pairs = [[(x.clamp(-1, 1) + 1) / 2 for x in pair(index)] for index in range(LENGTH)]
    targets, reconstructions = (torch.cat(images, dim=2) for images in zip(*pairs, strict=True))
    expected = -10 * (targets.double() - reconstructions.double()).square().mean().log10().item()
    evaluator = ReconstructionEvaluator({'pooled': dict(type='PooledPSNR'), 'PSNR': dict(type='PSNR')}, quantize=False)
    metrics = feed(evaluator, range(LENGTH), weights=['']).summarize().metrics
    assert metrics['pooled']['mean'] == pytest.approx(expected, abs=1e-5)
    assert metrics['pooled']['mean'] < metrics['PSNR']['mean']


def test_its_interval_covers_the_truth_19_times_in_20():
    """Images of two sizes whose squared error is exponential, 0.01 on average; 20 dB."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(400):
        metric = PooledPSNR()
        metric.moments = torch.zeros(6, dtype=torch.float64)
        for side in (2, 3):
            scale = torch.empty(40, 1, 1, 1).exponential_(100.0, generator=generator).sqrt()
            metric.update(torch.zeros(40, 3, side, side), scale.expand(40, 3, side, side))
        value, ci95, *_ = metric.compute()
        covered += abs(value - 20) < ci95
    assert covered == pytest.approx(380, abs=3 * math.sqrt(400 * 0.95 * 0.05))


def test_identical_images_give_infinity_and_one_image_no_interval():
    evaluator = ReconstructionEvaluator({'pooled': dict(type='PooledPSNR')})
    evaluator.process('', [0], ['a'], torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    entry = evaluator.summarize().metrics['pooled']
    assert (entry['mean'], entry['infinite']) == (None, 1)
    entry = feed(ReconstructionEvaluator({'pooled': dict(type='PooledPSNR')}), [0]).summarize().metrics['pooled']
    error = squared_error(*((x.clamp(-1, 1) + 1).mul(127.5).round().div(255)[None] for x in pair(0)))
    assert entry['mean'] == pytest.approx(-10 * math.log10(error), abs=1e-5)
    assert entry['ci95'] is None


# files and table

def test_table_and_files_state_the_number_of_images(tmp_path):
    summary = feed(build(PSNR=dict(type='PSNR')), range(5)).summarize()
    table = format_table(summary)
    assert table.count('(whole set of 5)') == 6
    assert '+- 0.2500 (whole set of 5)' in table
    assert 'channels.order ↓' in table
    write_results(summary, tmp_path)
    written = json.loads((tmp_path / 'summary.json').read_text())['metrics']
    assert written['channels.determinant']['ci95'] == 0.25
    assert written['raw/pooled']['images'] == 5
    assert 'images' not in written['PSNR']
    assert (tmp_path / 'metrics.csv').read_text().startswith('path,PSNR,raw/PSNR\n')


# ranks

def test_two_ranks_equal_one_process(tmp_path):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), tmp_path], env=environment) for rank in range(2)]
    try:
        assert [process.wait(timeout=60) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    for name, count in (('many', LENGTH), ('one', 1)):
        expected = feed(build(), range(count)).summarize().metrics
        for rank in range(2):
            found = json.loads((tmp_path / f'{name}_{rank}.json').read_text())
            for column, entry in expected.items():
                for key, value in entry.items():
                    near = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                    assert found[column][key] == near, column


def run_rank(rank, folder):
    distributed.init_process_group('gloo', store=distributed.FileStore(str(folder / 'store'), 2), rank=rank,
                                   world_size=2)
    for name, count in (('many', LENGTH), ('one', 1)):  # of one image, the second rank has none
        metrics = feed(build(), range(rank, count, 2)).summarize().metrics
        (folder / f'{name}_{rank}.json').write_text(json.dumps(metrics))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == '__main__':
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
