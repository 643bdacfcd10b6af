"""Two machines, played on one: each has its own network, name, mounts and processes (Linux namespaces).

Whatever runs in them ends with them, and they end with the process that made them, even by SIGKILL: nothing is left on
the system, because mounts and interfaces are in the namespaces too.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOLD = 'ip link set lo up && mount -t tmpfs tmpfs /run && exec sleep infinity'


def missing_rights():
    """What this system lacks to play two machines, as a list of sentences."""
    missing = []
    if os.geteuid():
        missing.append(f'root is needed; this is user {os.geteuid()}')
    for program, package in {'ip': 'iproute2', 'tc': 'iproute2', 'unshare': 'util-linux', 'nsenter': 'util-linux',
                             'setpriv': 'util-linux'}.items():
        if not shutil.which(program):
            missing.append(f'{program} is missing: apt-get install {package}')
    if missing:
        return missing
    for what, command in {
            'network, name, mount and process namespaces (CAP_SYS_ADMIN)':
                ['unshare', '--net', '--uts', '--mount', '--pid', '--fork', '--mount-proc', 'true'],
            'a veth pair and tc tbf (CAP_NET_ADMIN, CONFIG_VETH, CONFIG_NET_SCH_TBF)':
                ['unshare', '--net', 'sh', '-ec', 'ip link add va type veth peer name vb; '
                 'tc qdisc add dev va root tbf rate 100mbit burst 64kb latency 50ms'],
            'a tun device (/dev/net/tun)':
                ['unshare', '--net', 'ip', 'tuntap', 'add', 'dev', 'tun0', 'mode', 'tun']}.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            missing.append(f'no {what}: {done.stderr.strip()}')
    return missing


class Machine:
    """``node1`` at 10.0.0.1 or ``node2`` at 10.0.0.2; ``mounts``: path on the machine -> the one that it shows.

    Its /etc/hosts has its own name at 127.0.1.1, as Debian's installer writes it.
    """

    def __init__(self, number, folder, mounts=None):
        self.name, self.address = f'node{number}', f'10.0.0.{number}'
        other = 3 - number
        hosts = folder / f'hosts_{number}'
        hosts.write_text(f'127.0.0.1 localhost\n127.0.1.1 {self.name}\n10.0.0.{other} node{other}\n', encoding='utf-8')
        binds = {'/etc/hosts': hosts, **(mounts or {})}
        script = ''.join(f'mount --bind {source} {place} && ' for place, source in binds.items())
        self.holder = subprocess.Popen([
            'setpriv', '--pdeathsig', 'KILL', 'unshare', '--net', '--uts', '--mount', '--pid', '--fork', '--kill-child',
            '--mount-proc', 'sh', '-ec', f'hostname {self.name}; {script}{HOLD}'], stdin=subprocess.DEVNULL)
        self.init = self._first_process()

    def _first_process(self):
        """Host's number of the machine's process 1, once it is up."""
        for _ in range(200):
            children = Path(f'/proc/{self.holder.pid}/task/{self.holder.pid}/children').read_text(encoding='utf-8')
            for child in children.split():
                if Path(f'/proc/{child}/comm').read_text(encoding='utf-8').strip() == 'sleep':
                    return int(child)
            time.sleep(0.05)
        raise RuntimeError(f'{self.name} did not start')

    def command(self, *command):
        """The command as this system has to start it to run there."""
        return ['nsenter', '--target', str(self.init), '--net', '--uts', '--mount', '--pid', f'--wd={ROOT}',
                *map(str, command)]

    def start(self, *command, env=None, output=subprocess.PIPE):
        """A Popen, stdout and stderr in one."""
        variables = {name: value for name, value in os.environ.items()
                     if not name.startswith(('SLURM_', 'MASTER_', 'NNODES', 'NODE_RANK', 'GLOO_'))}
        variables.update({'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1',
                          'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests/data/plugins"}', **(env or {})})
        return subprocess.Popen(self.command(*command), stdout=output, stderr=subprocess.STDOUT, text=True,
                                env=variables, stdin=subprocess.DEVNULL)

    def run(self, *command, env=None, timeout_s=300):
        """A CompletedProcess; its failure is an AssertionError with what it said."""
        process = self.start(*command, env=env)
        said = process.communicate(timeout=timeout_s)[0]
        assert process.returncode == 0, f'{self.name}: {command}\n{said[-5000:]}'
        return said

    def processes(self, word=None):
        """Numbers, on this system, of its processes; with ``word``, of those that have it as an argument."""
        found = []
        for entry in Path('/proc').iterdir():
            if entry.name.isdigit():
                try:
                    same = os.readlink(entry / 'ns/pid') == os.readlink(f'/proc/{self.init}/ns/pid')
                    words = (entry / 'cmdline').read_bytes().decode().split('\0')
                    if same and int(entry.name) != self.init and (word is None or word in words):
                        found.append(int(entry.name))
                except OSError:  # it has ended
                    continue
        return found

    def kill(self):
        """SIGKILL to all that runs there; its kernel still closes their connections."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)

    def power_off(self):
        """End it, with its network and the other end of its cables."""
        self.holder.send_signal(signal.SIGKILL)
        self.holder.wait()


class Cluster:
    """Two machines on one cable, 10.0.0.0/24, and on a slow one, 10.0.1.0/24; a context manager."""

    def __init__(self, folder, mounts=None):
        self.folder, self.mounts = folder, mounts or {}

    def __enter__(self):
        self.machines = [Machine(number, self.folder, self.mounts) for number in (1, 2)]
        first, second = self.machines
        _ip('link', 'add', 'eth0', 'netns', first.init, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', second.init)
        for machine in self.machines:
            machine.run('sh', '-ec', f'ip addr add {machine.address}/24 dev eth0; ip link set eth0 up')
        self.relay = None
        return self

    def __exit__(self, *error):
        if self.relay:
            self.relay.kill()
            self.relay.wait()
        for machine in self.machines:
            machine.power_off()

    def add_slow_link(self, delay_ms, rate_mbit):
        """10.0.1.1 and 10.0.1.2: ``rate_mbit`` in each direction by tc tbf, ``delay_ms`` there and as many back."""
        self.relay = subprocess.Popen([sys.executable, Path(__file__).parent / 'relay.py', str(delay_ms),
                                       *(str(machine.init) for machine in self.machines)])
        for machine in self.machines:
            machine.run('sh', '-ec', 'until ip link show tun0 >/dev/null 2>&1; do sleep 0.1; done; '
                        f'ip addr add {machine.address.replace("10.0.0", "10.0.1")}/24 dev tun0; ip link set tun0 up; '
                        f'tc qdisc add dev tun0 root tbf rate {rate_mbit}mbit burst 64kb latency 400ms')

    def cut(self):
        """Take the cable away: from now on nothing arrives, and nobody is told."""
        self.machines[1].run('ip', 'link', 'set', 'eth0', 'down')


def sent_bytes(machine, interface):
    """What the machine has sent through an interface."""
    shown = json.loads(machine.run('ip', '-s', '-j', 'link', 'show', 'dev', interface))
    return shown[0]['stats64']['tx']['bytes']


def _ip(*arguments):
    subprocess.run(['ip', *map(str, arguments)], check=True)
