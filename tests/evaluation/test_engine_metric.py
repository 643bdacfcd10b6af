"""Metrics of MMEngine, which score all images at once."""

import csv

import pytest
import torch
from mmengine.evaluator import BaseMetric

from wfvae_toolkit.evaluation import ReconstructionEvaluator, evaluator, format_table, write_results
from wfvae_toolkit.utils.errors import SettingError

LENGTH = 7


class Paths(BaseMetric):
    """The order in which it saw the images, and a sum in which the order matters."""

    default_prefix = 'any'

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            assert sample['gt_img'].shape == (3, 4, 4)
            self.results.append((sample['img_path'], (sample['gt_img'] - sample['pred_img']).abs().sum()))

    def compute_metrics(self, results):
        self.seen = [path for path, _ in results]
        return {'sum': sum(error.item() / (7 + i) for i, (_, error) in enumerate(results)), 'of/count': len(results)}


class OneABatch(Paths):
    """One result a batch."""

    def process(self, data_batch, data_samples):
        self.results.append(('+'.join(sample['img_path'] for sample in data_samples), data_batch['inputs'].sum()))


def build(cls=Paths, **row):
    return ReconstructionEvaluator(dict(PSNR=dict(type='PSNR'), whole=dict(type=cls, **row)))


def feed(target, indices, batch_size, weights=('', 'raw')):
    for start in range(0, len(indices), batch_size):
        chunk = indices[start:start + batch_size]
        images = torch.stack([torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in chunk])
        for shift, name in enumerate(weights):
            target.process(name, chunk, [f'{i}.png' for i in chunk], images, images * (0.5 + 0.1 * shift))
    return target


def test_columns_are_those_of_both_weights(tmp_path):
    summary = feed(build(higher_is_better={'sum': False}), list(range(LENGTH)), 2).summarize()
    assert list(summary.metrics) == ['PSNR', 'raw/PSNR', 'whole.sum', 'whole.of.count', 'raw/whole.sum',
                                     'raw/whole.of.count']
    assert summary.metrics['whole.of.count']['mean'] == LENGTH
    assert summary.metrics['whole.sum']['mean'] != summary.metrics['raw/whole.sum']['mean']
    assert summary.metrics['raw/whole.sum']['higher_is_better'] is False
    assert summary.metrics['whole.of.count']['higher_is_better'] is None
    assert 'whole.sum ↓' in format_table(summary)
    write_results(summary, tmp_path)
    with open(tmp_path / 'metrics.csv', encoding='utf-8') as file:
        assert next(csv.reader(file)) == ['path', 'PSNR', 'raw/PSNR']


@pytest.mark.parametrize('cls', [Paths, OneABatch])
def test_two_ranks_give_the_number_of_one(monkeypatch, cls):
    whole = feed(build(cls), list(range(LENGTH)), 1)
    expected = whole.summarize().metrics
    ranks = [feed(build(cls), list(range(rank, LENGTH, 2)), 1) for rank in range(2)]
    payloads = []
    monkeypatch.setattr(evaluator, 'gather', lambda value: payloads.append(value) or [value])
    for rank in ranks:
        rank.summarize()
    monkeypatch.setattr(evaluator, 'gather', lambda value: payloads)
    for rank in ranks:
        assert rank.summarize().metrics == expected
        assert rank.metrics['whole'].metric.seen == whole.metrics['whole'].metric.seen


def test_a_second_pass_forgets_the_first():
    target = feed(build(), [0, 1, 2], 1)
    target.reset()
    assert feed(target, [0, 1], 1).summarize().metrics['whole.of.count']['mean'] == 2


def test_directions_come_from_the_class_or_the_row():
    class Better(Paths):
        higher_is_better = True

    for target, expected in ((build(), None), (build(Better), True), (build(Better, higher_is_better=False), False)):
        feed(target, [0], 1).summarize()
        assert target.higher_is_better('whole.sum') is expected
    with pytest.raises(SettingError, match=r"'whole' is never measured; use one of PSNR, whole.sum, whole.of.count"):
        target.higher_is_better('whole')
    with pytest.raises(SettingError, match='this metric sets it itself, to True'):
        ReconstructionEvaluator(dict(PSNR=dict(type='PSNR', higher_is_better=True)))


def test_a_score_that_is_no_number_is_counted_and_has_no_mean():
    class Undefined(Paths):
        def compute_metrics(self, results):
            return {'value': float('nan')}

    entry = feed(build(Undefined), [0], 1).summarize().metrics['whole.value']
    assert (entry['mean'], entry['nan']) == (None, 1)
