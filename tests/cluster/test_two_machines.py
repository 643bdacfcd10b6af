"""Two machines without a scheduler, started by the README's own line; `make test-cluster`."""

import json
import os
import shlex
import signal
import time
from contextlib import contextmanager

import pytest
from run_files import assert_same_run

from tests.cluster.conftest import CONFIG, LENGTH
from tests.cluster.machines import ROOT, Cluster, sent_bytes
from tests.short_runs import stop
from wfvae_toolkit.utils.peers import ROLL_CALL

PEER_TIMEOUT_S = 15
SLACK_S = 60  # for processes and launcher to end on a busy machine (20 s were once too few at a load of 12 on 2 cores)


def typed(text):
    """The one line of the README that starts with ``text``, without its comment."""
    lines = [line.partition(' #')[0].strip() for line in (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()]
    line, = [line for line in lines if line.startswith(text)]
    return line


def command(rank, *arguments, options=None, address='10.0.0.1'):
    """The README's line for the machine of ``rank``, with the tiny config and one process."""
    line = typed('NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 tools/dist_train.sh')
    for mine, other in (('configs/wfvae2_1024.py 8', f'{CONFIG} 1'), ('NODE_RANK=0', f'NODE_RANK={rank}'),
                        ('10.0.0.1', address)):
        assert mine in line
        line = line.replace(mine, other)
    words = [*arguments, *(['--cfg-options', *(f'{key}={value}' for key, value in options.items())] if options else [])]
    return ['sh', '-c', ' '.join([line, *(shlex.quote(str(word)) for word in words)])]


@contextmanager
def running(cluster, folder, *arguments, options=None, address='10.0.0.1', env=None):
    """The processes of the line on both machines."""
    yield [machine.start(*command(rank, '--work-dir', folder, *arguments, options=options, address=address), env=env)
           for rank, machine in enumerate(cluster.machines)]


def train(cluster, *arguments, **settings):
    """What both machines said, in one text."""
    with running(cluster, *arguments, **settings) as processes:
        said = [process.communicate(timeout=400)[0] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-5000:]
    return '\n'.join(said)


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as made:
        yield made


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Folder of an undisturbed run on both machines."""
    folder = tmp_path_factory.mktemp('whole')
    with Cluster(folder) as made:
        train(made, folder / 'run')
        assert sent_bytes(made.machines[1], 'eth0') > 1e5
    return folder / 'run'


def wait_until_stopped(machine):
    """Number of the machine's worker, once it has stopped itself by SIGSTOP: the others wait for it in a collective."""
    for _ in range(4000):
        for process in machine.processes('--launcher'):
            with open(f'/proc/{process}/stat', encoding='utf-8') as stat:
                if stat.read().rpartition(')')[2].split()[0] == 'T':
                    time.sleep(1)
                    return process
        time.sleep(0.1)
    raise AssertionError(f'{machine.name}: no worker stopped')


def test_two_machines_train_the_weights_of_one_process(whole, one_process, assert_close):
    assert_close(whole, one_process)


def test_two_machines_score_like_one_process(cluster, whole, one_process, tmp_path):
    checkpoint = whole / f'iter_{LENGTH}.pth'
    processes = [machine.start('tools/dist_test.sh', CONFIG, checkpoint, 1, '--work-dir', tmp_path / 'two', env={
        'NNODES': '2', 'NODE_RANK': str(rank), 'MASTER_ADDR': '10.0.0.1', 'PORT': '29500'})
        for rank, machine in enumerate(cluster.machines)]
    for process in processes:
        said = process.communicate(timeout=400)[0]
        assert process.returncode == 0, said[-5000:]
    cluster.machines[0].run('tools/dist_test.sh', CONFIG, checkpoint, 1, '--work-dir', tmp_path / 'one')
    one, two = (json.loads((tmp_path / name / 'summary.json').read_text(encoding='utf-8'))['metrics']['PSNR']['mean']
                for name in ('one', 'two'))
    assert two == pytest.approx(one, abs=1e-5)


def goes_on(folder, whole):
    """Both machines are there again: the same line with --resume."""
    with Cluster(folder) as repaired:
        assert 'resumed from' in train(repaired, folder / 'run', '--resume')
    assert_same_run(folder / 'run', whole, LENGTH)


def assert_names(process, said, lost):
    assert process.returncode == 1
    assert 'Traceback' not in said
    last = said.splitlines()[-1]
    assert last.startswith(f'error: lost contact with node{lost} (10.0.0.{lost}; rank {lost - 1}); '), said[-3000:]
    return last


@pytest.mark.parametrize('lost', [2, 1])
def test_a_machine_whose_processes_are_killed_is_named_at_once(cluster, whole, tmp_path, lost):
    """Machine 1 holds the store in which the processes meet."""
    victim, survivor = cluster.machines[lost - 1], 2 - lost
    with running(cluster, tmp_path / 'run', options=stop('SIGSTOP', 6, rank=lost - 1)) as processes:
        wait_until_stopped(victim)
        victim.kill()
        said = processes[survivor].communicate(timeout=60)[0]
    print(assert_names(processes[survivor], said, lost))
    assert not cluster.machines[survivor].processes('--launcher')
    goes_on(tmp_path, whole)


def test_both_ends_of_a_cut_cable_name_the_other_after_the_timeout(cluster, whole, tmp_path):
    """As after a loss of power: nobody closes a connection, only the time tells. Machine 2 reaches no store either."""
    with running(cluster, tmp_path / 'run', options=stop('SIGSTOP', 6, rank=1),
                 env={'PEER_TIMEOUT': str(PEER_TIMEOUT_S)}) as processes:
        stopped = wait_until_stopped(cluster.machines[1])
        cluster.cut()
        os.kill(stopped, signal.SIGCONT)
        start = time.monotonic()
        for lost, process in zip((2, 1), processes, strict=True):
            said = process.communicate(timeout=300)[0]
            seconds = time.monotonic() - start
            print(f'{seconds:.0f} s: {assert_names(process, said, lost)}')
            assert seconds < PEER_TIMEOUT_S + 2 * ROLL_CALL.total_seconds() + SLACK_S
    goes_on(tmp_path, whole)


def test_a_killed_process_is_started_again_on_both_machines(cluster, whole, tmp_path):
    said = train(cluster, tmp_path / 'run', options=stop('SIGKILL', 6, rank=1), env={'MAX_RESTARTS': '1'})
    assert 'resumed from' in said
    assert_same_run(tmp_path / 'run', whole, LENGTH)


def test_a_slow_link_changes_no_number(cluster, whole, tmp_path):
    """100 Mbit/s, and 20 ms there and back: by tc tbf and a relay of our own, because the kernel has no netem."""
    cluster.add_slow_link(delay_ms=10, rate_mbit=100)
    before = sent_bytes(cluster.machines[1], 'eth0')
    train(cluster, tmp_path / 'run', address='10.0.1.1')
    assert sent_bytes(cluster.machines[1], 'tun0') > 1e5
    assert sent_bytes(cluster.machines[1], 'eth0') - before < 1e4
    assert_same_run(tmp_path / 'run', whole, LENGTH)
