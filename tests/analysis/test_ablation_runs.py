"""Runs of a study with train.py and test.py in the place of the tools: quick, and as faulty as a test needs."""

import json
import os
import time
from pathlib import Path

import pytest

from wfvae_toolkit.analysis import ablation_runs
from wfvae_toolkit.analysis.ablation import config_names, plan_runs
from wfvae_toolkit.analysis.ablation_runs import RunFailed, iterations_for, run_all, training_seconds

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'

TRAIN = '''
import json, os, pathlib, sys, time
config, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3])
options = dict(item.split('=', 1) for item in sys.argv[sys.argv.index('--cfg-options') + 1:])
(folder / 'calls.jsonl').open('a').write(json.dumps([sys.argv[4:5], options, dict(os.environ)]) + '\\n')
steps = int(options['train_cfg.max_iters'])
print(f'training {config.stem}', flush=True)
if config.stem == 'crashes':
    print('\\n'.join(f'line {i}' for i in range(100)))
    raise SystemExit('error: out of order')
if config.stem == 'stops' and not (folder / 'log.jsonl').is_file():
    steps = 1
if config.stem == 'waits':
    time.sleep(60)
interval = int(options.get('default_hooks.logger.interval', 1))
with open(folder / 'log.jsonl', 'a') as log:
    for i in range(interval, steps + 1, interval):
        row = dict(phase='train', iteration=i, seconds_per_iteration=9.0 if i == interval > 1 else 0.5)
        log.write(json.dumps(row | dict(peak_memory_gib=1.0)) + '\\n')
'''
TEST = '''
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
folder.mkdir()
(folder / 'summary.json').write_text('{}')
'''


@pytest.fixture
def study(tmp_path):
    """Configs by name, tools, and ``plan(*names, seeds=)``."""
    class Study:
        tools, folder = tmp_path / 'tools', tmp_path / 'study'

        def configs(self, *names):
            for name in names:
                (tmp_path / f'{name}.py').write_text(f'_base_ = {str(TINY)!r}\n', encoding='utf-8')
            return [str(tmp_path / f'{name}.py') for name in names]

        def plan(self, *names, seeds=(0,), options=None):
            configs = self.configs(*names)
            return plan_runs(configs, seeds, dict.fromkeys(config_names(configs), 3), self.folder, options)

        def calls(self, run):
            return [json.loads(line) for line in (run.folder / 'calls.jsonl').read_text().splitlines()]

    Study.tools.mkdir()
    (Study.tools / 'train.py').write_text(TRAIN)
    (Study.tools / 'test.py').write_text(TEST)
    return Study()


def test_a_run_is_trained_scored_and_then_left_alone(study):
    runs, lines = study.plan('one', seeds=(0, 4), options={'model.losses.kl.weight': 0.25, 'work_dir': 'a b'}), []
    assert run_all(runs, study.tools, 1, lines.append) == []
    (resume, options, _), = study.calls(runs[1])
    assert resume == ['--resume']
    assert (options['randomness.seed'], options['train_cfg.max_iters'], options['val_cfg']) == ('4', '3', 'None')
    assert (options['model.losses.kl.weight'], options['work_dir']) == ('0.25', "'a b'")
    assert lines[0] == '2 runs, 0 of them finished before; 1 at a time'
    assert 'one, seed 0: 2 s' in lines[1]  # 3 updates of 0.5 s
    assert run_all(runs, study.tools, 1, lines.append) == []
    assert lines[-1] == '2 runs, 2 of them finished before; 1 at a time'
    assert len(study.calls(runs[0])) == 1


@pytest.mark.parametrize('jobs', [1, 3])
def test_a_crash_is_reported_and_the_others_go_on(study, jobs):
    runs, lines = study.plan('crashes', 'one', 'two'), []
    failure, = run_all(runs, study.tools, jobs, lines.append)
    assert isinstance(failure, RunFailed)
    message = str(failure).splitlines()
    assert message[0].startswith('crashes, seed 0: train.py ended with status 1; the end of ')
    assert [line.strip() for line in message[1:]] == [*(f'line {i}' for i in range(86, 100)), 'error: out of order']
    assert [run.finished() for run in runs] == [False, True, True]
    assert any('crashes, seed 0: FAILED' in line for line in lines)


def test_a_run_that_stopped_early_is_no_result_and_goes_on_in_the_next_call(study):
    runs = study.plan('stops')
    failure, = run_all(runs, study.tools, 1, print)
    assert str(failure) == 'stops, seed 0: stopped at update 1 of 3; the same command continues'
    assert run_all(runs, study.tools, 1, print) == []
    assert runs[0].finished()


def test_an_interruption_ends_the_children(study):
    runs = study.plan('waits', 'one', 'two')

    def interrupt(line):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, study.tools, 2, lambda line: None if 'at a time' in line else interrupt(line))
    assert time.monotonic() - start < 30  # 'waits' would take 60 s
    log = (runs[0].folder / 'output.log').read_text()
    assert log in ('', 'training waits\n')
    assert not runs[0].finished()


def test_jobs_share_the_processors(study, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 8)
    runs = study.plan('one', 'two')
    run_all(runs, study.tools, 2, print)
    assert [study.calls(run)[0][2]['OMP_NUM_THREADS'] for run in runs] == ['4', '4']


def test_jobs_are_spread_over_the_gpus(study, monkeypatch):
    monkeypatch.setattr(ablation_runs, 'visible_devices', lambda: ['2', '5'])
    runs = study.plan('one', 'two', 'three', 'four')
    run_all(runs, study.tools, 4, print)
    assert sorted(study.calls(run)[0][2]['CUDA_VISIBLE_DEVICES'] for run in runs) == ['2', '2', '5', '5']


def test_minutes_become_updates_by_a_pilot(study):
    """The stub takes 9 s an update in the first ten and 0.5 s after them."""
    configs = study.configs('one', 'two')
    assert iterations_for(2, configs, study.folder, study.tools) == {'one': 240, 'two': 240}
    assert iterations_for(0.5, configs, study.folder, study.tools) == {'one': 60, 'two': 60}
    calls = (study.folder / 'one/pilot/calls.jsonl').read_text().splitlines()
    assert len(calls) == 1  # measured once
    assert json.loads(calls[0])[1]['train_cfg.max_iters'] == '40'
    with pytest.raises(RunFailed, match=r'crashes, pilot: train\.py ended'):
        iterations_for(2, study.configs('crashes'), study.folder, study.tools)


def test_time_is_that_of_the_updates(tmp_path):
    rows = [dict(phase='train', iteration=10, seconds_per_iteration=2.0), dict(phase='val', iteration=10),
            dict(phase='train', iteration=15, seconds_per_iteration=1.0)]
    (tmp_path / 'log.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    assert training_seconds(tmp_path) == 25.0
