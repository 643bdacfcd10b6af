import math

import pytest
import torch
from scipy import stats

from wfvae_toolkit.evaluation.statistics import mean_of_batch_means, statistics, student_t


@pytest.mark.parametrize('count', [2, 3, 4, 5, 12, 101, 2000])
def test_interval_equals_scipy(count):
    assert student_t(count - 1) == pytest.approx(stats.t.ppf(0.975, count - 1), rel=1e-9)
    values = torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(count)).tolist()
    low, high = stats.t.interval(0.95, count - 1, loc=sum(values) / count, scale=stats.sem(values))
    measured = statistics(values)
    assert measured['mean'] == pytest.approx((low + high) / 2, abs=1e-12)
    assert measured['ci95'] == pytest.approx((high - low) / 2, rel=1e-9)


def test_statistics_of_odd_values():
    assert statistics([2.0]) == {'mean': 2.0, 'ci95': None, 'infinite': 0, 'nan': 0}
    assert statistics([math.inf, 2.0, 4.0, math.inf])['mean'] == 3
    assert statistics([math.inf, 2.0, 4.0, math.inf])['infinite'] == 2
    assert statistics([math.inf]) == {'mean': None, 'ci95': None, 'infinite': 1, 'nan': 0}
    assert statistics([math.nan, 2.0, 4.0]) == {'mean': None, 'ci95': None, 'infinite': 0, 'nan': 1}


def test_the_mean_of_batch_means_weighs_a_short_batch_more():
    assert mean_of_batch_means([1.0, 3.0, 8.0], 2) == pytest.approx(5.0)
    assert mean_of_batch_means([1.0, 3.0, 8.0, 4.0], 2) == pytest.approx(4.0)
    assert mean_of_batch_means([1.0, math.nan], 2) is None
    assert mean_of_batch_means([1.0, math.inf], 2) is None
