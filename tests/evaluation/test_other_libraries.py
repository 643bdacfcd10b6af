"""Metrics with the interfaces of torchmetrics and pyiqa, which are not installed for the tests, and plain functions."""

import pytest
import torch
from torch import nn

from wfvae_toolkit.evaluation import ReconstructionEvaluator, other_libraries
from wfvae_toolkit.evaluation import evaluator as evaluator_module
from wfvae_toolkit.utils.errors import SettingError

LENGTH = 7


def dim_zero_sum(stacked):
    return stacked.sum(0)


def dim_zero_mean(stacked):
    return stacked.mean(0)


class TorchMetric(nn.Module):
    """What this package touches of ``torchmetrics.Metric`` 1.9, with its rules for states."""

    higher_is_better = None

    def __init__(self):
        super().__init__()
        self._reductions, self._defaults, self._update_count, self._computed = {}, {}, 0, None

    def add_state(self, name, default, dist_reduce_fx):
        self._defaults[name], self._reductions[name] = default, dist_reduce_fx
        setattr(self, name, [] if isinstance(default, list) else default.clone())

    def reset(self):
        self._update_count = 0
        for name, default in self._defaults.items():
            if isinstance(default, list):
                getattr(self, name).clear()
            else:
                setattr(self, name, default.clone())


class SquaredError(TorchMetric):
    higher_is_better = False

    def __init__(self):
        super().__init__()
        self.add_state('total', torch.tensor(0.0), dim_zero_sum)
        self.add_state('count', torch.tensor(0), dim_zero_sum)
        self.add_state('data_range', torch.tensor(1.0), dim_zero_mean)

    def update(self, preds, target):
        assert preds.shape == (1, 3, 4, 4)
        self.total += (preds - target).square().sum()
        self.count += preds.numel()

    def compute(self):
        assert self._update_count == LENGTH
        assert not self.distributed_available_fn()
        return self.total / self.count / self.data_range


class Features(TorchMetric):
    """Like KID: lists without a reduction, ``real``, and a result of two numbers; the order of the images matters."""

    def __init__(self, normalize=False):
        super().__init__()
        self.normalize = normalize
        self.add_state('real', [], None)
        self.add_state('fake', [], None)

    def update(self, imgs, real):
        (self.real if real else self.fake).append(imgs.double().mean((1, 2, 3)))

    def compute(self):
        weights = 1 / torch.arange(1.0, len(self.real) + 1).double()
        return (torch.cat(self.real) * weights).sum(), (torch.cat(self.fake) * weights).sum()


class Reconstructions(TorchMetric):
    """Takes one argument."""

    def __init__(self):
        super().__init__()
        self.add_state('highest', torch.tensor(0.0), lambda stacked: stacked.max(0).values)

    def update(self, imgs):
        self.highest = torch.maximum(self.highest, imgs.max())

    def compute(self):
        return {'highest': self.highest}


class Drifts(SquaredError):
    """Averages a state over ranks that is not the same on all of them."""

    def update(self, preds, target):
        super().update(preds, target)
        self.data_range = self.data_range + 1


class Iqa(nn.Module):
    """What ``pyiqa.create_metric`` returns."""

    def __init__(self, metric_name, metric_mode='FR', lower_better=True):
        super().__init__()
        self.metric_name, self.metric_mode, self.lower_better = metric_name, metric_mode, lower_better

    def forward(self, target, ref=None):
        assert (ref is None) == (self.metric_mode == 'NR')
        return (target if ref is None else target - ref).abs().mean((1, 2, 3))[:, None]


def create_metric(metric_name, metric_mode='FR', lower_better=True):
    return Iqa(metric_name, metric_mode, lower_better)


def gap(preds, target, power=1.0):
    return (preds - target).abs().pow(power).mean()


def many(preds, target):
    return (preds - target).abs()


WHOLE = dict(error=dict(type=SquaredError), features=dict(type=Features, normalize=True),
             peak=dict(type=Reconstructions))


def feed(evaluator, indices, batch_size=1):
    for start in range(0, len(indices), batch_size):
        chunk = list(indices[start:start + batch_size])
        images = torch.stack([torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in chunk])
        for weights, factor in (('', 0.9), ('raw', 0.7)):
            evaluator.process(weights, chunk, list(map(str, chunk)), images * 2 - 1, images * factor * 2 - 1)
    return evaluator


# torchmetrics

def test_states_of_both_weights_are_apart_and_batches_do_not_matter():
    metrics = feed(ReconstructionEvaluator(WHOLE), range(LENGTH)).summarize().metrics
    assert list(metrics) == ['error', 'raw/error', 'features.0', 'features.1', 'raw/features.0', 'raw/features.1',
                             'peak.highest', 'raw/peak.highest']
    assert metrics['raw/error']['mean'] > 2 * metrics['error']['mean']
    assert metrics['features.0'] == metrics['raw/features.0']
    assert metrics['features.1']['mean'] > metrics['raw/features.1']['mean']
    assert metrics['error']['higher_is_better'] is False
    assert metrics['error']['images'] == LENGTH
    assert feed(ReconstructionEvaluator(WHOLE), range(LENGTH), 3).summarize().metrics == metrics


def two_ranks(monkeypatch, metrics):
    """The summaries of two ranks; each state is gathered as processes would do it."""
    ranks = [feed(ReconstructionEvaluator(metrics), range(rank, LENGTH, 2)) for rank in range(2)]
    results = [({name: row.results() for name, row in rank._whole_set().items()}, rank) for rank in ranks]
    payload = [(rank._records, rank._skipped, result) for result, rank in results]
    monkeypatch.setattr(evaluator_module, 'gather', lambda value: payload)
    # Rank by rank and row by row, a metric asks for the states of its row on both ranks.
    states = [{name: {weights: dict(state) for weights, state in row._states.items()}
               for name, row in rank.metrics.items()} for rank in ranks]

    def gather(mine):
        found = [(name, weights) for own in states for name, of_weights in own.items()
                 for weights, state in of_weights.items() if same(state, mine)]
        return [own[found[0][0]][found[0][1]] for own in states]
    monkeypatch.setattr(other_libraries, 'gather', gather)
    return [rank.summarize().metrics for rank in ranks]


def same(state, mine):
    return state.keys() == mine.keys() and all(
        len(value) == len(mine[name]) and all(map(torch.equal, value, mine[name])) if isinstance(value, list)
        else torch.equal(value, mine[name]) for name, value in state.items())


def test_two_ranks_equal_one_process(monkeypatch):
    expected = feed(ReconstructionEvaluator(WHOLE), range(LENGTH)).summarize().metrics
    for found in two_ranks(monkeypatch, WHOLE):
        assert found.keys() == expected.keys()
        for column, entry in expected.items():
            assert found[column]['mean'] == pytest.approx(entry['mean'], rel=1e-9), column


def test_a_mean_over_ranks_of_unequal_numbers_of_images_is_refused(monkeypatch):
    with pytest.raises(SettingError, match=r"'data_range' is averaged over ranks, which hold \[4, 3\] images"):
        two_ranks(monkeypatch, dict(drifts=dict(type=Drifts)))


def test_images_in_minus_1_to_1_are_refused():
    with pytest.raises(SettingError, match=r'metrics\.features: Features: set normalize=True'):
        ReconstructionEvaluator(dict(features=dict(type=Features)))


# pyiqa

def test_pyiqa_scores_each_image_and_says_its_direction():
    metrics = dict(fr=dict(type=create_metric, metric_name='a'),
                   nr=dict(type=create_metric, metric_name='b', metric_mode='NR', lower_better=False))
    summary = feed(ReconstructionEvaluator(metrics, quantize=False), range(2), 2).summarize()
    assert summary.metrics['fr']['higher_is_better'] is False
    assert summary.metrics['nr']['higher_is_better'] is True
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    assert summary.rows[1]['fr'] == pytest.approx(0.1 * image.mean().item(), rel=1e-4)
    assert summary.rows[1]['nr'] == pytest.approx(0.9 * image.mean().item(), rel=1e-4)
    assert summary.protocol['fr'] == 'pyiqa a, image by image'


# functions

def test_a_function_scores_each_image(monkeypatch):
    monkeypatch.setattr(torch.nn.functional, 'gap', gap, raising=False)
    row = dict(type='PictureFunction', function='torch.nn.functional.gap', arguments=dict(power=2.0),
               higher_is_better=False)
    evaluator = feed(ReconstructionEvaluator(dict(gap=row), quantize=False), range(3), 3)
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(2))
    assert evaluator.summarize().rows[2]['gap'] == pytest.approx((0.1 * image).square().mean().item(), rel=1e-4)
    assert evaluator.higher_is_better('gap') is False


@pytest.mark.parametrize(('row', 'message'), [
    (dict(function='torch.nn.functional.nowhere'), 'nowhere'), (dict(function='nowhere.gap'), 'nowhere'),
    (dict(function='gap'), 'a dotted path of a function'),
    (dict(function='torch.nn.functional.gap', arguments=dict(power_=1.0)), "unexpected keyword argument 'power_'")])
def test_a_function_that_does_not_fit_is_refused(monkeypatch, row, message):
    monkeypatch.setattr(torch.nn.functional, 'gap', gap, raising=False)
    with pytest.raises(SettingError, match=message):
        ReconstructionEvaluator(dict(gap=dict(type='PictureFunction', **row)))


def test_a_function_of_many_values_is_named(monkeypatch):
    monkeypatch.setattr(torch.nn.functional, 'many', many, raising=False)
    row = dict(type='PictureFunction', function='torch.nn.functional.many')
    with pytest.raises(SettingError, match=r'many returned shape \(1, 3, 4, 4\) for one image'):
        feed(ReconstructionEvaluator(dict(many=row)), [0])
