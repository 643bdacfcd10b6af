import math
from pathlib import Path

import pytest

from tests.helpers import load_module

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def compare_losses():
    return load_module(ROOT / 'tools/dev/compare_losses.py')


def row(**numbers):
    return {'phase': 'train', 'iteration': 3, **numbers}


def test_equal_logs_do_not_differ(compare_losses):
    log = [row(loss=0.1, psnr=math.inf), row(loss=math.nan)]
    assert compare_losses.differences(log, [dict(one) for one in log], 0.0) == []


@pytest.mark.parametrize(('other', 'found'), [
    ([row(loss=math.nextafter(0.1, 1))], ['train 3: loss 0.1, 0.10000000000000002']),
    ([row(loss=0.1, kl=1.0)], ['train 3: kl None, 1.0']),
    ([row(loss=math.nan)], ['train 3: loss 0.1, nan']),
    ([row(loss=0.1), row(loss=0.1)], ['1 rows and 2 rows']),
])
def test_one_bit_one_name_or_one_row_is_a_difference(compare_losses, other, found):
    assert compare_losses.differences([row(loss=0.1)], other, 0.0) == found


def test_a_tolerance_is_relative_to_the_larger(compare_losses):
    assert compare_losses.differences([row(loss=100.0)], [row(loss=100.1)], 1e-2) == []
    assert len(compare_losses.differences([row(loss=0.0)], [row(loss=1e-9)], 1e-2)) == 1


@pytest.mark.slow
def test_a_commit_trains_as_itself(compare_losses, capsys):
    compare_losses.main(['HEAD', 'HEAD', '--variants', 'joint', '--iterations', '6'])
    assert 'numbers, 0 differ' in capsys.readouterr().out
