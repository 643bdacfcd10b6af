"""``make gpu`` itself; these tests need no GPU."""

import json
import sys

import pytest

from tests.gpu.__main__ import _from_log, main, report
from tests.gpu.measure import goals, plan

ROW = dict(size=1024, batch=4, mode='eager', work='forward', seconds=0.1, images_per_second=40.0, times_first=1.0,
           limit_ratio=None, peak_bytes=10 * 2**30)


def test_what_is_left_out_for_lack_of_time_is_named(tmp_path, capsys):
    assert main(['--device', 'cpu', '--minutes', '0', '--out', str(tmp_path)]) == 0
    parts = json.loads((tmp_path / 'gpu.json').read_text(encoding='utf-8'))['parts']
    assert [(part['part'], part['left_out']) for part in parts] == [
        (name, ['all of it']) for name in ('benchmark', 'tests', 'more')]
    assert capsys.readouterr().out.count('left out: all of it') == 3


def test_the_report_names_failures_and_measured_rows():
    rows = [{**ROW, 'model': 'ours', 'limit_ratio': 0.725}, {**ROW, 'model': 'plain', 'times_first': 2.5}]
    text = report([{'part': 'benchmark', 'seconds': 3.0, 'failed': ['forward: OutOfMemoryError'], 'left_out': ['512'],
                    'rows': rows, 'goals': ['a: 1']}])
    assert '| 1024 x 4 | eager | forward | ours | 100.0 | 40.0 | 1.00 | 0.72 | 10.00 |' in text
    assert 'FAILED forward: OutOfMemoryError' in text
    assert 'left out: 512' in text


def test_what_ended_before_a_kill_counts(tmp_path):
    log = tmp_path / 'tests.log'
    log.write_text('tests/gpu/test_a.py::test_one PASSED  [ 5%]\n[gw1] [ 10%] PASSED tests/gpu/test_a.py::test_two\n'
                   'tests/gpu/test_a.py::test_three FAILED\ntests/gpu/test_a.py::test_four ')
    assert _from_log(log) == {'failed': ['tests/gpu/test_a.py::test_three: see tests.log'], 'passed': 2}
    log.write_text('Traceback\n')
    assert _from_log(log)['failed'] == ['pytest: see tests.log']


def test_goals_say_which_are_reached():
    rows = [{**ROW, 'model': 'ours', 'limit_ratio': 0.65}, {**ROW, 'model': 'plain', 'seconds': 0.25},
            {**ROW, 'model': 'AutoencoderKL', 'seconds': 0.3, 'peak_bytes': 40 * 2**30}]
    assert goals(rows) == [
        'limit / time, forward eager: 0.65, MISSED (0.7 wanted)',
        'times as fast as plain, forward eager: 2.50, reached (2 wanted)',
        'times as fast as AutoencoderKL, forward eager: 3.00, MISSED (4 wanted)',
        'memory of AutoencoderKL over ours, forward eager: 4.00, reached (2 wanted)',
        '80 GB over the peak, forward eager: 7.45, reached (1 wanted)']


def test_the_largest_pictures_come_first():
    assert [step[:2] for step in plan('benchmark')] == [(1024, 4)] * 4
    assert len(set(plan('more'))) == len(plan('more'))


@pytest.mark.slow
def test_it_runs_on_a_cpu_without_the_packages_of_weights(launch, tmp_path):
    hidden = tmp_path / 'hidden'
    hidden.mkdir()
    (hidden / 'sitecustomize.py').write_text(
        'import sys\nsys.modules["stlpips_pytorch"] = sys.modules["lpips"] = None\n', encoding='utf-8')
    done = launch(sys.executable, '-m', 'tests.gpu', '--device', 'cpu', '--minutes', '9', '--out', tmp_path / 'out',
                  check=False, env={'PYTHONPATH': str(hidden)})
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads((tmp_path / 'out/gpu.json').read_text(encoding='utf-8'))
    parts = {part['part']: part for part in found['parts']}
    assert len(parts['benchmark']['rows']) == 12
    assert parts['tests']['passed'] > 20
