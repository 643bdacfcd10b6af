import subprocess

import pytest

from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.distributed import LaunchError, process_group

SLURM = {'SLURM_PROCID': '5', 'SLURM_NTASKS': '16', 'SLURM_LOCALID': '1', 'SLURM_JOB_ID': '1234567',
         'SLURM_STEP_NODELIST': 'gpu[07-08,11]'}


@pytest.fixture
def scontrol(monkeypatch):
    """Answers like Slurm's; the arguments of its calls."""
    calls = []

    def run(command, **options):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0, 'gpu07\ngpu08\ngpu11\n')
    monkeypatch.setattr(subprocess, 'run', run)
    return calls


def test_slurm_s_variables_become_torchrun_s(scontrol):
    variables = distributed._torchrun_variables(SLURM)
    assert variables == {'RANK': '5', 'WORLD_SIZE': '16', 'LOCAL_RANK': '1', 'MASTER_ADDR': 'gpu07',
                         'MASTER_PORT': str(15_000 + 1234567 % 15_000)}
    assert scontrol == [['scontrol', 'show', 'hostnames', 'gpu[07-08,11]']]


def test_address_and_port_can_be_given(scontrol):
    variables = distributed._torchrun_variables({**SLURM, 'MASTER_ADDR': '10.0.0.1', 'PORT': '29500'})
    assert (variables['MASTER_ADDR'], variables['MASTER_PORT']) == ('10.0.0.1', '29500')
    assert not scontrol


@pytest.mark.parametrize('job', [0, 1, 14_999, 15_000, 99_999_999])
def test_port_is_free_of_privileged_and_passing_ones(scontrol, job):
    port = int(distributed._torchrun_variables({**SLURM, 'SLURM_JOB_ID': str(job)})['MASTER_PORT'])
    assert 15_000 <= port < 30_000


def test_without_srun_the_error_names_what_is_missing(monkeypatch):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LaunchError, match='SLURM_PROCID, .* not set; start with srun or tools/slurm_train.sh'), \
            process_group('slurm'):
        pass


def test_without_scontrol_the_address_must_be_given(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(LaunchError, match=r'cannot find the first host of gpu\[07-08,11\] .*; set MASTER_ADDR'):
        distributed._torchrun_variables(SLURM)
