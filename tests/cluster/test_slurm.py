"""docs/clusters.md under a real Slurm of two nodes; `make test-slurm`."""

import json
import re
import shlex
import time

import pytest
from run_files import assert_same_run, read_csv

from tests.cluster.conftest import CONFIG, LENGTH
from tests.cluster.machines import ROOT
from tests.cluster.slurm import SlurmCluster, missing_programs
from tests.short_runs import stop

SIZES = {'GPUS': '2', 'GPUS_PER_NODE': '1'}
# Longer than any test; the run's end is the signal.
ENDLESS = {'train_cfg.max_iters': 100_000, 'train_cfg.val_interval': 100_000,
           'default_hooks.checkpoint.interval': 100_000}


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    if missing := missing_programs():
        pytest.exit('these tests need: ' + '; '.join(missing), returncode=1)
    with SlurmCluster(tmp_path_factory.mktemp('slurm')) as cluster:
        yield cluster


def arguments(folder, *more, options=None):
    words = ['tools/slurm_train.sh', 'gpus', 'a_job', CONFIG, '--work-dir', folder, *more]
    return [*words, *(['--cfg-options', *(f'{key}={value}' for key, value in options.items())] if options else [])]


@pytest.fixture(scope='module')
def whole(slurm, tmp_path_factory):
    """Folder of an undisturbed run, started by slurm_train.sh from a login on node1."""
    folder = tmp_path_factory.mktemp('whole')
    assert 'processes: 2' in slurm.machines[0].run(*arguments(folder), env=SIZES)
    return folder


def page_script(start):
    """The block of docs/clusters.md that starts so, for the tiny config on two processes."""
    text = (ROOT / 'docs/clusters.md').read_text(encoding='utf-8')
    script, = [block for block in re.findall(r'```bash\n(.*?)```', text, re.DOTALL) if block.startswith(start)]
    for shown, here in (('PARTITION JOB_NAME', 'gpus a_job'), ('configs/wfvae2_1024.py', CONFIG),
                        ('ntasks-per-node=8', 'ntasks-per-node=1'), ('gpu:8', 'gpu:1'),
                        ('GPUS=16', 'GPUS=2 GPUS_PER_NODE=1')):
        assert shown in script, shown
        script = script.replace(shown, here)
    return script


def submit(slurm, folder, script, *options, settings=None):
    """The number of the batch job; what it prints is in ``folder``/job.txt."""
    words = shlex.join(f'{key}={value}' for key, value in (settings or ENDLESS).items())
    assert ' --resume' in script
    (folder / 'job.sh').write_text(script.replace(
        ' --resume', f' --resume --work-dir {folder}/run --cfg-options {words}'), encoding='utf-8')
    return slurm.machines[0].run('sbatch', '--parsable', f'--chdir={ROOT}', f'--output={folder}/job.txt', *options,
                                 folder / 'job.sh').strip()


def wait_until_trained(folder, iterations=2):
    """Until the run has written a row of that iteration or a later one."""
    for _ in range(2000):
        if (folder / 'train.csv').exists():
            rows = read_csv(folder / 'train.csv')
            if rows and int(rows[-1]['iteration']) >= iterations:
                return
        time.sleep(0.2)
    raise AssertionError(f'{folder}: no row of iteration {iterations}')


def assert_stopped(said, folder, name):
    """The run said where it ended, and left that iteration's checkpoint."""
    iteration = re.search(rf'stopped by {name} after iteration (\d+) of', said)
    assert iteration, said[-5000:]
    assert (folder / f'iter_{iteration[1]}.pth').is_file()
    return int(iteration[1])


def test_slurm_trains_the_weights_of_one_process(whole, one_process, assert_close):
    assert_close(whole, one_process)


def test_slurm_scores_like_one_process(slurm, whole, tmp_path):
    checkpoint = whole / f'iter_{LENGTH}.pth'
    slurm.machines[0].run('tools/slurm_test.sh', 'gpus', 'a_job', CONFIG, checkpoint, '--work-dir', tmp_path / 'two',
                          env=SIZES)
    slurm.machines[0].run('tools/dist_test.sh', CONFIG, checkpoint, 1, '--work-dir', tmp_path / 'one')
    one, two = (json.loads((tmp_path / name / 'summary.json').read_text(encoding='utf-8'))['metrics']['PSNR']['mean']
                for name in ('one', 'two'))
    assert two == pytest.approx(one, abs=1e-5)


def current_job(slurm):
    """Number of the one job that runs."""
    for _ in range(500):
        numbers = slurm.machines[0].run('squeue', '--noheader', '--format=%i', '--states=RUNNING').split()
        if len(numbers) == 1:
            return numbers[0]
        time.sleep(0.2)
    raise AssertionError(f'one running job is expected: {numbers}')


@pytest.mark.parametrize(('options', 'name', 'status'), [
    (['--signal=USR1'], 'SIGUSR1', 138), ([], 'SIGTERM', 143)])
def test_scancel_ends_a_run_with_a_checkpoint_and_resume_goes_on(slurm, tmp_path, options, name, status):
    process = slurm.machines[0].start(*arguments(tmp_path / 'run', options=ENDLESS), env=SIZES)
    wait_until_trained(tmp_path / 'run')
    slurm.machines[0].run('scancel', *options, current_job(slurm))
    said = process.communicate(timeout=200)[0]
    assert process.returncode == status, said[-5000:]
    iteration = assert_stopped(said, tmp_path / 'run', name)
    said = slurm.machines[0].run(*arguments(tmp_path / 'run', '--resume', options={
        **ENDLESS, 'train_cfg.max_iters': iteration + 2}), env=SIZES)
    assert 'resumed from' in said
    assert (tmp_path / 'run' / f'iter_{iteration + 2}.pth').is_file()


def test_the_batch_script_requeues_itself_and_the_run_equals_an_undisturbed_one(slurm, whole, tmp_path):
    job = submit(slurm, tmp_path, page_script('#!/bin/bash\n'), settings=stop('SIGUSR1', 6))
    fields = slurm.wait_for(job, 'COMPLETED', 'FAILED', 'CANCELLED')
    said = (tmp_path / 'job.txt').read_text(encoding='utf-8')
    assert (fields['JobState'], fields['Restarts']) == ('COMPLETED', '1'), said[-5000:]
    assert assert_stopped(said, tmp_path / 'run', 'SIGUSR1') == 6
    assert_same_run(tmp_path / 'run', whole, LENGTH)


def test_before_the_time_limit_slurm_sends_the_signal_that_was_asked_for(slurm, tmp_path):
    """A limit of 3 minutes, and the signal 90 s before: Slurm looks twice a minute."""
    script = page_script('#!/bin/bash\n')
    for shown, here in (('--time=24:00:00 --signal=USR1@120', '--time=3 --signal=USR1@90'),
                        ('--requeue', '--no-requeue')):
        assert shown in script
        script = script.replace(shown, here)
    job = submit(slurm, tmp_path, script.replace('&& scontrol requeue', '&& echo scontrol requeue'))
    fields = slurm.wait_for(job, 'COMPLETED', 'FAILED', 'TIMEOUT', 'CANCELLED')
    said = (tmp_path / 'job.txt').read_text(encoding='utf-8')
    assert fields['ExitCode'] == '138:0', said[-5000:]
    assert_stopped(said, tmp_path / 'run', 'SIGUSR1')
    assert f'scontrol requeue {job}' in said


def test_a_batch_shell_passes_the_signal_on(slurm, tmp_path):
    job = submit(slurm, tmp_path, page_script('#!/bin/bash -x'))
    wait_until_trained(tmp_path / 'run')
    slurm.machines[0].run('scancel', '--batch', '--signal=USR1', job)
    fields = slurm.wait_for(job, 'COMPLETED', 'FAILED', 'CANCELLED')
    said = (tmp_path / 'job.txt').read_text(encoding='utf-8')
    assert fields['ExitCode'] == '138:0', said[-5000:]
    assert_stopped(said, tmp_path / 'run', 'SIGUSR1')


def test_an_operator_s_requeue_stops_the_run_and_starts_it_again_where_it_was(slurm, tmp_path):
    job = submit(slurm, tmp_path, page_script('#!/bin/bash\n'))
    wait_until_trained(tmp_path / 'run')
    slurm.machines[0].run('scontrol', 'requeue', job)
    slurm.wait_for(job, 'PENDING')
    iteration = assert_stopped((tmp_path / 'job.txt').read_text(encoding='utf-8'), tmp_path / 'run', 'SIGTERM')
    wait_until_trained(tmp_path / 'run', iteration + 2)
    slurm.machines[0].run('scancel', job)
    fields = slurm.wait_for(job, 'CANCELLED')
    assert fields['Restarts'] == '1'
    assert f'resumed from {tmp_path}/run/iter_{iteration}.pth' in (tmp_path / 'job.txt').read_text(encoding='utf-8')


def test_a_process_that_fails_ends_the_others(slurm, tmp_path):
    process = slurm.machines[0].start(*arguments(tmp_path / 'run', options={**ENDLESS, **stop('SIGKILL', 4, rank=1)}),
                                      env=SIZES)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 137, said[-5000:]
    assert 'error: lost contact with node2 (10.0.0.2; rank 1); ' in said
