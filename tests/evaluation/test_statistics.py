import math

import pytest
import torch
from scipy import stats

from wfvae_toolkit.evaluation.statistics import statistics, student_t


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
