import math

import pytest
import torch
from PIL import Image

from wfvae_toolkit.evaluation import describe_worst, worst_images
from wfvae_toolkit.evaluation.evaluator import EvaluationSummary
from wfvae_toolkit.evaluation.worst import write_worst


def summary(better, *values, column='score'):
    rows = [{'path': f'{name}.png', column: value} for name, value in zip('abcd', values, strict=False)]
    return EvaluationSummary(len(rows), {}, {column: {'higher_is_better': better}}, {}, [], rows)


@pytest.mark.parametrize(('better', 'worst'), [(True, ['b.png', 'c.png']), (False, ['a.png', 'c.png'])])
def test_the_direction_of_the_metric_decides(better, worst):
    assert [path for path, _ in worst_images(summary(better, 3.0, 1.0, 2.0), 2)['score']] == worst


@pytest.mark.parametrize('better', [True, False])
def test_a_value_that_is_no_number_is_worst(better):
    found = worst_images(summary(better, 3.0, math.nan, math.inf, -math.inf), 1)
    assert found['score'][0][0] == 'b.png'


@pytest.mark.parametrize(('better', 'column'), [(None, 'score'), (True, 'raw/score')])
def test_other_weights_and_metrics_without_a_direction_are_left_out(better, column):
    assert worst_images(summary(better, 1.0, 2.0, column=column)) == {}


def test_nothing_is_said_about_a_single_picture():
    assert describe_worst(summary(True, 1.0)) == []
    assert describe_worst(summary(True, 2.0, 1.0), 1) == ['worst score: b.png 1.0000']


def test_a_later_evaluation_replaces_the_pictures(tmp_path):
    zeros = torch.zeros(1, 3, 8, 8)
    for values in ((1.0, 2.0), (2.0, 1.0)):
        write_worst(summary(True, *values), tmp_path / 'worst', lambda path: (zeros, zeros))
    assert sorted(path.name for path in (tmp_path / 'worst').iterdir()) == ['score_1_b.png', 'score_2_a.png']
    with Image.open(tmp_path / 'worst/score_1_b.png') as picture:
        assert picture.height == 8
