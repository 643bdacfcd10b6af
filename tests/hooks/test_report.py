import json
from types import SimpleNamespace

import pytest

from tests.report.made import make_run, read_data
from wfvae_toolkit.hooks import ReportHook
from wfvae_toolkit.utils.errors import SettingError


@pytest.fixture
def runner(tmp_path):
    said = []
    logger = SimpleNamespace(warning=said.append, info=said.append)
    return SimpleNamespace(work_dir=make_run(tmp_path / 'run', rows=10), logger=logger, said=said)


def test_a_report_follows_the_run(runner):
    hook = ReportHook(every_s=0)
    hook.after_log(runner, 'train', {})
    page = runner.work_dir / 'report/index.html'
    assert read_data(page)['live'] is True
    make_run(runner.work_dir, rows=20)
    hook.after_log(runner, 'train', {})
    assert '20 of 40' in page.read_text(encoding='utf-8')
    hook.after_train(runner)
    assert read_data(page)['live'] is False
    assert runner.said == [f'report: {page}']


def test_no_more_often_than_asked_for(runner):
    hook = ReportHook(every_s=1000)
    hook.after_log(runner, 'train', {})
    make_run(runner.work_dir, rows=20)
    hook.after_log(runner, 'train', {})
    assert '10 of 40' in (runner.work_dir / 'report/index.html').read_text(encoding='utf-8')


def test_a_damaged_file_is_a_warning_once_and_the_run_goes_on(runner):
    (runner.work_dir / 'evaluation').mkdir()
    (runner.work_dir / 'evaluation/summary.json').write_text(json.dumps([]))
    hook = ReportHook(every_s=0)
    hook.after_log(runner, 'train', {})
    hook.after_log(runner, 'train', {})
    [warning] = runner.said
    assert 'summary.json' in warning


def test_a_negative_time_is_refused():
    with pytest.raises(SettingError, match='every_s=-1'):
        ReportHook(every_s=-1)
