"""Devices and their memory."""

import resource
import sys
from pathlib import Path

import torch

from .errors import SettingError


def default_device():
    """This rank's GPU if there is one, else the CPU."""
    return torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else torch.device('cpu')


def find_device(name=None):
    """Name such as 'cuda:1' -> torch.device; None: `default_device`. SettingError if this machine lacks it."""
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch without CUDA asserts
        here = ['cpu', *(f'cuda:{number}' for number in range(torch.cuda.device_count()))]
        raise SettingError(f'device {name!r}: {str(error).splitlines()[0]}; here there is {", ".join(here)}') from None
    return device


def peak_memory_bytes():
    """Peak of the allocated GPU memory; without a GPU, the process's peak resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path('/proc/self/status')  # Linux
    for line in status.read_text('utf-8', 'replace').splitlines() if status.exists() else ():
        if line.startswith('VmHWM:'):
            # KiB. getrusage would include the peak of the parent process.
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024  # KiB on Linux
