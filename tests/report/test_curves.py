import math

import pytest

from wfvae_toolkit.report.curves import MOST_ROWS, curve_columns


def rows(count, **values):
    return [{'phase': 'train', 'iteration': 2 * number, 'seconds_per_iteration': 1800.0, **values}
            for number in range(1, count + 1)]


def test_hours_are_those_of_the_updates():
    records = [*rows(2), {'phase': 'val', 'iteration': 4, 'PSNR': 20.0}]
    columns = curve_columns(records)
    assert columns['train']['hours'] == [1.0, 2.0]
    assert columns['val']['hours'] == [2.0]


def test_a_value_that_is_missing_or_not_finite_is_none():
    records = rows(3)
    records[0]['loss'], records[1]['loss'] = None, 5.0
    assert curve_columns(records)['train']['values']['loss'] == [None, 5.0, None]


def test_no_rows():
    assert curve_columns([]) == {}


@pytest.mark.parametrize('count', [MOST_ROWS + 1, 3 * MOST_ROWS, 100_000])
def test_long_logs_keep_their_peaks(count):
    records = rows(count, loss=1.0)
    records[count // 2]['loss'], records[count // 3]['loss'] = 99.0, -99.0
    columns = curve_columns(records)['train']
    assert len(columns['iteration']) == len(columns['hours']) == len(columns['values']['loss']) <= MOST_ROWS + 1
    assert columns['merged'] == math.ceil(2 * count / MOST_ROWS)
    assert {99.0, -99.0} <= set(columns['values']['loss'])
    assert columns['iteration'] == sorted(columns['iteration'])
    assert columns['iteration'][-1] == 2 * count
