"""Debian's Slurm on the two machines of `machines.py`: munge, slurmctld on node1, slurmd on both."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.cluster.machines import Cluster

PROGRAMS = {'munged': 'munge', 'slurmctld': 'slurmctld', 'slurmd': 'slurmd', 'srun': 'slurm-client',
            'sbatch': 'slurm-client', 'scancel': 'slurm-client', 'scontrol': 'slurm-client'}
# linuxproc and task/none need neither systemd nor cgroups. Without accounting a job's end is read from scontrol.
# cred_expire: a requeued job waits that long before it starts again (120 s by default).
CONF = '''
ClusterName=two
SlurmctldHost=node1(10.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
SlurmdParameters=config_overrides
StateSaveLocation=/run/slurmctld
SlurmctldPidFile=/run/slurmctld.pid
SlurmdSpoolDir=/run/slurmd
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={logs}/slurmctld.log
SlurmdLogFile={logs}/slurmd.%n.log
InactiveLimit=0
MinJobAge=3600
KillWait={kill_wait_s}
ReturnToService=2
NodeName=node1 NodeAddr=10.0.0.1 CPUs=16 RealMemory=4000 Gres=gpu:1
NodeName=node2 NodeAddr=10.0.0.2 CPUs=16 RealMemory=4000 Gres=gpu:1
PartitionName=gpus Nodes=ALL Default=YES MaxTime=INFINITE State=UP
'''


def missing_programs():
    return [f'{name} is missing: apt-get install {package}' for name, package in PROGRAMS.items()
            if not shutil.which(name)]


class SlurmCluster(Cluster):
    """Two nodes of the partition ``gpus``, each with one GPU, whose device file is /dev/null."""

    def __init__(self, folder, kill_wait_s=30):
        conf = folder / 'etc'
        conf.mkdir()
        (conf / 'slurm.conf').write_text(CONF.format(logs=folder, kill_wait_s=kill_wait_s), encoding='utf-8')
        (conf / 'gres.conf').write_text('Name=gpu File=/dev/null\n', encoding='utf-8')
        self.key = folder / 'munge.key'
        self.key.write_bytes(os.urandom(128))
        self.key.chmod(0o400)
        super().__init__(folder, mounts={'/etc/slurm': conf})

    def __enter__(self):
        super().__enter__()
        for machine in self.machines:
            machine.run('sh', '-ec', f'mkdir -p /run/munge /run/slurmctld /run/slurmd; munged --force '
                        f'--key-file {self.key} --log-file {self.folder}/munged.{machine.name}.log '
                        f'--pid-file /run/munge/munged.pid --seed-file /run/munge/seed')
        self.daemons = [self.machines[0].start('slurmctld', '-D', output=subprocess.DEVNULL)]
        self.daemons += [machine.start('slurmd', '-D', '-N', machine.name, output=subprocess.DEVNULL)
                         for machine in self.machines]
        self._wait_for_nodes()
        return self

    def _wait_for_nodes(self):
        said = ''
        for _ in range(300):
            said = subprocess.run(self.machines[0].command('sinfo', '--noheader', '--format=%T %D'),
                                  capture_output=True, text=True, check=False).stdout
            if said.split() == ['idle', '2']:
                return
            time.sleep(0.2)
        self.__exit__()
        logs = '\n'.join(f'{path.name}:\n{path.read_text(encoding="utf-8")[-2000:]}'
                         for path in Path(self.folder).glob('*.log'))
        raise RuntimeError(f'Slurm has not two idle nodes, but: {said}\n{logs}')

    def job(self, number):
        """What `scontrol show job` says, field -> text."""
        said = self.machines[0].run('scontrol', 'show', 'job', '--oneliner', number)
        return dict(field.partition('=')[::2] for field in said.split() if '=' in field)

    def wait_for(self, number, *states, timeout_s=400):
        """The job's fields, once it is in one of the states."""
        limit_s = time.monotonic() + timeout_s
        while time.monotonic() < limit_s:
            job = self.job(number)
            if job['JobState'] in states:
                return job
            time.sleep(0.5)
        raise AssertionError(f'job {number} is {job["JobState"]}, not {" or ".join(states)}')
