"""Versions, code state and devices, for logs and result files."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import wfvae_toolkit

from . import distributed
from .device import device_name

_PACKAGES = ('torch', 'torchvision', 'mmengine', 'numpy', 'pillow')
_FORKS = {'mmengine': 'onedl-mmengine'}  # of the same import name


def describe_environment():
    """Name -> text, in the order to print."""
    versions = ', '.join(map(_named_version, _PACKAGES))
    machine = describe_machine()
    device = f'{machine["cpu"]}, kernels {machine["kernels"]}, {machine["threads"]} threads a process'
    if 'gpu' in machine:
        device = f'{torch.accelerator.device_count()} x {machine["gpu"]}; {device}'
    return {
        'wfvae_toolkit': f'{wfvae_toolkit.__version__} ({git_state(Path(wfvae_toolkit.__file__).parent)})',
        'python': f'{platform.python_version()} on {platform.platform()}',
        'packages': versions,
        'device': device,
        'processes': str(distributed.world_size()),
    }


def describe_machine():
    """Name -> text or number for all that selects the CPU's kernels: other kernels round the last bits differently."""
    kernels = torch.backends.cpu.get_cpu_capability()
    limit = os.environ.get('ONEDNN_MAX_CPU_ISA')
    machine = {'cpu': _cpu_name(), 'kernels': kernels + (f', oneDNN up to {limit}' if limit else ''),
               'threads': torch.get_num_threads()}
    name = device_name()
    return machine if name is None else {**machine, 'gpu': name}


def describe_versions():
    """Name -> version of every package that can change the numbers of a run."""
    return {'wfvae_toolkit': wfvae_toolkit.__version__, 'python': platform.python_version(),
            **{name: version_of(name) for name in _PACKAGES}}


def _cpu_name():
    """Model of the processor from Linux, else from Python's ``platform``."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text(encoding='utf-8', errors='replace').splitlines() if info.is_file() else ()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def git_state(folder):
    """Commit of a checkout and whether it has changes; says so where there is none."""
    def git(*arguments):
        return subprocess.run(['git', *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout
    try:
        commit = git('rev-parse', '--short=12', 'HEAD').strip()
        changed = git('status', '--porcelain', '--untracked-files=no', '--', '.').strip()
    except (OSError, subprocess.CalledProcessError):
        return 'not a git checkout'
    return f'git {commit}' + (', with changes' if changed else '')


def version_of(name):
    """Version of an installed package or of the fork that replaces it, else 'not installed'."""
    return _named_version(name).partition(' ')[2]


def _named_version(name):
    for candidate in (name, _FORKS.get(name, name)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f'{candidate} {metadata.version(candidate)}'
    return f'{name} not installed'
