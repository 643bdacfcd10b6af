"""Versions, code state and devices, for logs and result files."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import wfvae_toolkit

from . import distributed

_PACKAGES = ('torch', 'torchvision', 'mmengine', 'numpy', 'pillow')
_FORKS = {'mmengine': 'onedl-mmengine'}  # of the same import name


def describe_environment():
    """Name -> text, in the order to print."""
    versions = ', '.join(map(_version, _PACKAGES))
    if torch.cuda.is_available():
        device = f'{torch.cuda.device_count()} x {torch.cuda.get_device_name()}'
    else:
        device = f'CPU, {torch.get_num_threads()} threads a process'
    return {
        'wfvae_toolkit': f'{wfvae_toolkit.__version__} ({git_state(Path(wfvae_toolkit.__file__).parent)})',
        'python': f'{platform.python_version()} on {platform.platform()}',
        'packages': versions,
        'device': device,
        'processes': str(distributed.world_size()),
    }


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


def _version(name):
    for candidate in (name, _FORKS.get(name, name)):
        try:
            return f'{candidate} {metadata.version(candidate)}'
        except metadata.PackageNotFoundError:
            continue
    return f'{name} not installed'
