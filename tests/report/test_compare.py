import json
import math

import pytest

from tests.report.made import make_evaluation
from wfvae_toolkit.report.compare import compare_entries, differing_settings, flatten, verdict
from wfvae_toolkit.report.read import read_entries

NAMES = [f'{number}.png' for number in range(12)]


@pytest.fixture
def compared(tmp_path):
    """Results by metric of the second of two evaluations against the first."""
    def compare(first, second):
        sides = {'first': first, 'second': second}
        entries = read_entries([make_evaluation(tmp_path / name, **side) for name, side in sides.items()])
        return {result['metric']: result for result in compare_entries(*entries)}
    return compare


def test_a_constant_gain_is_better_although_images_differ_more(compared):
    result = compared(dict(names=NAMES), dict(names=NAMES, shift=0.5))['PSNR']
    assert (result['verdict'], result['images']) == ('better', 12)
    assert result['mean'] == pytest.approx(0.5, abs=0.02)
    assert result['ci95'] < 0.05


def test_an_interval_around_zero_shows_no_difference(compared):
    result = compared(dict(names=NAMES, spread=1.0), dict(names=NAMES, shift=0.001, spread=1.0))['PSNR']
    assert result['verdict'] == 'no difference shown'
    assert abs(result['mean']) < result['ci95']


def test_equal_scores_show_no_difference(compared):
    assert compared(dict(names=NAMES), dict(names=NAMES))['LPIPS']['verdict'] == 'no difference shown'


def test_only_images_of_both_are_paired(compared):
    result = compared(dict(names=NAMES), dict(names=NAMES[:6]))['PSNR']
    assert result['images'] == 6
    assert result['mean'] == pytest.approx(0, abs=0.02)


def test_fewer_than_five_images_have_no_interval(compared):
    result = compared(dict(names=NAMES[:4]), dict(names=NAMES[:4], shift=1.0))['PSNR']
    assert (result['ci95'], result['verdict']) == (None, '4 images: too few for an interval')


def test_no_common_image_is_said(compared):
    result = compared(dict(names=NAMES[:6]), dict(names=NAMES[6:]))['PSNR']
    assert (result['mean'], result['verdict']) == (None, 'no image was scored in both')


def test_another_protocol_is_no_comparison(compared):
    result = compared(dict(names=NAMES), dict(names=NAMES, shift=1.0, pipeline='CenterCrop(size=48)'))['PSNR']
    assert result['ci95'] is None
    assert 'pipeline is CenterCrop(size=24) and CenterCrop(size=48)' in result['verdict']


@pytest.mark.parametrize(('mean', 'ci95', 'better', 'said'), [
    (0.2, 0.1, True, 'better'), (-0.2, 0.1, True, 'worse'), (0.2, 0.1, False, 'worse'), (-0.2, 0.1, False, 'better'),
    (0.1, 0.2, True, 'no difference shown'), (0.1, 0.1, True, 'no difference shown'), (0.2, 0.1, None, 'changed')])
def test_verdict(mean, ci95, better, said):
    assert verdict(mean, ci95, better) == said


def test_settings_are_named_by_dotted_keys():
    config = {'model': {'blocks': [{'type': 'A'}, {'type': 'B'}], 'widths': (1, 2)}, 'empty': {}}
    assert flatten(config) == {'model.blocks.0.type': "'A'", 'model.blocks.1.type': "'B'", 'model.widths': '[1, 2]',
                               'empty': '{}'}


def test_settings_that_differ_and_those_that_one_lacks():
    first, second = {'a': 1, 'b': (1, 2), 'c': {'d': math.inf}}, {'a': 2, 'b': [1, 2], 'c': {}}
    assert differing_settings([first, second]) == [('a', ['1', '2']), ('c.d', ['inf', None]), ('c', [None, '{}'])]


def test_scores_of_whole_sets_are_paired_by_blocks(tmp_path):
    entries = []
    for name, gain in (('first', 0.0), ('second', -1.0)):
        folder = make_evaluation(tmp_path / name, NAMES)
        summary = json.loads((folder / 'summary.json').read_text())
        blocks = [5.0 * block + gain * (1 + 0.1 * (block % 2)) for block in range(10)]
        entry = {'mean': 30.0 + gain, 'ci95': 9.0, 'infinite': 0, 'nan': 0, 'higher_is_better': False, 'images': 12}
        summary['metrics'] |= {'FD': {**entry, 'blocks': blocks, 'notes': ['few']}, 'pooled': entry}
        (folder / 'summary.json').write_text(json.dumps(summary))
        entries += read_entries([folder])
    results = {result['metric']: result for result in compare_entries(*entries)}
    assert (results['FD']['mean'], results['FD']['verdict'], results['FD']['images']) == (-1.0, 'better', 12)
    assert 0 < results['FD']['ci95'] < 0.1
    assert (results['pooled']['mean'], results['pooled']['ci95']) == (-1.0, None)
    assert results['pooled']['verdict'] == 'one number for all images: no interval'
    entries[1].evaluation.rows.pop(NAMES[0])
    assert {result['metric']: result for result in compare_entries(*entries)}['FD']['verdict'] == (
        'scored on other images')
