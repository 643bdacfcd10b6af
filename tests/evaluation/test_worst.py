import math

import pytest

from wfvae_toolkit.evaluation import describe_faults, describe_worst, worst_images
from wfvae_toolkit.evaluation.evaluator import EvaluationSummary


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


def test_what_has_no_score_is_named():
    found = summary(True, 1.0, math.nan, math.nan)
    found.metrics['score']['nan'] = 2
    found.metrics['whole'] = {'higher_is_better': None, 'nan': 1}
    found.skipped.append({'path': 'd.png', 'reason': 'zero bytes'})
    assert describe_faults(found) == ['not scored: d.png: zero bytes',
                                      'not a number: score of 2 images, the first: b.png',
                                      'not a number: whole of the whole set']


def test_the_function_that_is_gone_names_its_replacement():
    with pytest.raises(ImportError, match='write_worst is gone: .*pictures.json'):
        from wfvae_toolkit.evaluation import write_worst  # noqa: F401
