"""The run that those of several machines are compared with, and what they share."""

import os
import subprocess
import sys

import pytest
import torch
from run_files import read_state

from tests import tolerances
from tests.cluster.machines import ROOT, missing_rights

CONFIG = 'tests/cluster/tiny.py'
LENGTH, LR = 8, 1e-3
pytest.register_assert_rewrite('run_files')


@pytest.fixture(scope='session', autouse=True)
def rights():
    """A machine that cannot play two fails; it does not skip."""
    if missing := missing_rights():
        pytest.exit('these tests need: ' + '; '.join(missing), returncode=1)


@pytest.fixture(scope='session')
def one_process(tmp_path_factory):
    """Folder of the run of one process with the batch of both."""
    folder = tmp_path_factory.mktemp('one')
    subprocess.run([sys.executable, 'tools/train.py', CONFIG, '--work-dir', folder,
                    '--cfg-options', 'train_dataloader.batch_size=4'], cwd=ROOT, check=True, capture_output=True,
                   timeout=600, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    return folder


@pytest.fixture(scope='session')
def assert_close():
    """Compares the last weights, averaged ones included, of two runs with the same global batch."""
    def compare(run, reference):
        states = [read_state(folder / f'iter_{LENGTH}.pth') for folder in (run, reference)]
        assert states[0]['meta']['consumed'] == states[1]['meta']['consumed'] == LENGTH * 4
        for part in ('state_dict', 'ema_state_dict'):
            mine, other = (torch.cat([value.double().flatten() for value in state[part].values()]) for state in states)
            assert (mine - other).norm() <= tolerances.of_training(other, LR, LENGTH / 2), part
    return compare
