"""Slurm and several machines, played by processes of this one."""

import csv
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests/data/configs/tiny.py'
SRUN = '''#!{python}
"""Starts as many processes as --ntasks says and tells each what Slurm would."""
import json, os, subprocess, sys
options = dict(word.lstrip('-').partition('=')[::2] for word in sys.argv[1:] if word.startswith('--') and '=' in word)
start = next(i for i, word in enumerate(sys.argv) if i and not word.startswith('--'))
json.dump(dict(options=options, command=sys.argv[start:]), open(os.environ['SRUN_RECORD'], 'w'))
count, per_node = int(options['ntasks']), int(options['ntasks-per-node'])
processes = [subprocess.Popen(sys.argv[start:], env=dict(
    os.environ, SLURM_JOB_ID=os.environ['FAKE_JOB_ID'], SLURM_STEP_NODELIST='node[1-2]', SLURM_NTASKS=str(count),
    SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank % per_node))) for rank in range(count)]
sys.exit(max(process.wait() for process in processes))
'''
SCONTROL = '''#!{python}
import sys
assert sys.argv[1:] == ['show', 'hostnames', 'node[1-2]']
print('localhost\\nnode2')
'''


def free_port():
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    """Environment in which srun and scontrol are ours."""
    folder = tmp_path_factory.mktemp('slurm')
    for name, source in (('srun', SRUN), ('scontrol', SCONTROL)):
        (folder / name).write_text(source.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return {'PATH': f'{folder}{os.pathsep}{os.environ["PATH"]}', 'SRUN_RECORD': str(folder / 'record.json'),
            'GPUS': '2', 'GPUS_PER_NODE': '1', 'FAKE_JOB_ID': '0', 'PORT': str(free_port())}


@pytest.fixture(scope='module')
def options(photos):
    return ['--cfg-options', f'train_dataloader.dataset.data_root={photos / "train"}',
            f'val_dataloader.dataset.data_root={photos / "val"}', 'train_cfg.max_iters=4',
            'default_hooks.curves=None', 'default_hooks.pictures=None']


@pytest.fixture(scope='module')
def by_slurm(launch, slurm, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp('by_slurm')
    done = launch('tools/slurm_train.sh', 'a_partition', 'a_job', TINY, '--work-dir', folder, *options, env=slurm)
    return folder, done, json.loads(Path(slurm['SRUN_RECORD']).read_text())


@pytest.fixture(scope='module')
def by_two_machines(launch, options, tmp_path_factory):
    """Run folders of machine 0 and 1, which share no disk."""
    folder = tmp_path_factory.mktemp('machines')
    port = str(free_port())

    def machine(number):
        launch('tools/dist_train.sh', TINY, 1, '--work-dir', folder / str(number), *options, env={
            'NNODES': '2', 'NODE_RANK': str(number), 'MASTER_ADDR': '127.0.0.1', 'PORT': port})
        return folder / str(number)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(machine, range(2)))


def logged(folder):
    """Rows of train.csv and val.csv without what depends on the clock and on memory."""
    rows = []
    for name in ('train.csv', 'val.csv'):
        with open(folder / name, encoding='utf-8', newline='') as file:
            rows += [{key: value for key, value in row.items()
                      if 'second' not in key and key not in ('data_wait_share', 'peak_memory_gib')}
                     for row in csv.DictReader(file)]
    return rows


def test_srun_gets_partition_name_and_sizes(by_slurm):
    _, _, record = by_slurm
    assert record['options'].items() >= {'partition': 'a_partition', 'job-name': 'a_job', 'nodes': '2', 'ntasks': '2',
                                         'ntasks-per-node': '1', 'gres': 'gpu:1'}.items()
    assert record['command'][-2:] == ['--launcher', 'slurm']


def test_slurm_trains_on_all_its_processes(by_slurm):
    folder, done, _ = by_slurm
    assert 'processes: 2' in done.stdout + done.stderr
    assert (folder / 'iter_4.pth').is_file()


@pytest.mark.slow
def test_two_machines_log_what_two_processes_of_slurm_do(by_slurm, by_two_machines):
    first, second = by_two_machines
    assert [row['iteration'] for row in logged(first)] == ['2', '4', '3', '4']
    assert logged(first) == logged(by_slurm[0])
    # Rank 1 writes nothing.
    for name in ('log.jsonl', 'train.csv', 'val.csv', 'iter_4.pth', 'last_checkpoint'):
        assert (first / name).is_file()
        assert not (second / name).exists()


@pytest.mark.slow
def test_slurm_scores_like_one_process(by_slurm, launch, tool, slurm, photos, tmp_path):
    checkpoint = by_slurm[0] / 'iter_4.pth'
    data = f'val_dataloader.dataset.data_root={photos / "val"}'
    launch('tools/slurm_test.sh', 'a_partition', 'a_job', TINY, checkpoint, '--work-dir', tmp_path / 'two',
           '--cfg-options', data, env=slurm)
    tool('test')(TINY, checkpoint, '--work-dir', tmp_path / 'one', '--cfg-options', data)
    one, two = (json.loads((tmp_path / name / 'summary.json').read_text())['metrics']['PSNR']['mean']
                for name in ('one', 'two'))
    assert two == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize(('script', 'arguments'), [('slurm_train.sh', ['p', 'j']), ('slurm_test.sh', ['p', 'j', 'c'])])
def test_slurm_launchers_say_how_they_are_called(launch, script, arguments):
    done = launch(f'tools/{script}', *arguments, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith('usage: ')


def test_gpus_that_nodes_do_not_divide(launch, slurm):
    sizes = {'GPUS': '12', 'GPUS_PER_NODE': '8'}
    done = launch('tools/slurm_train.sh', 'p', 'j', TINY, check=False, env={**slurm, **sizes})
    assert done.returncode == 2
    assert 'GPUS=12: a multiple of GPUS_PER_NODE=8 is needed' in done.stderr


@pytest.mark.slow
def test_torchrun_says_the_reason_last(launch):
    done = launch('tools/dist_train.sh', 'nope.py', '2', check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'error: no config file nope.py'
    assert 'Traceback' not in done.stderr
