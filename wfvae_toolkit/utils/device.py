"""Devices and their memory: the accelerator that torch finds (CUDA, ROCm, XPU, MPS), else the CPU."""

import contextlib
import functools
import sys
from pathlib import Path

import psutil
import torch

from .errors import SettingError

_PINNING = {'cuda', 'xpu'}
_chosen = None  # by `using_device`


def default_device():
    """This rank's accelerator if there is one, else the CPU; or what `using_device` chose."""
    device = _chosen or (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None)
    if device is None:
        return torch.device('cpu')
    if device.type == 'cpu' or device.index is not None:
        return device
    # The first name is that of torch 2.8 and newer.
    current = getattr(torch.accelerator, 'current_device_index', None) or torch.accelerator.current_device_idx
    return torch.device(device.type, current())


def find_device(name=None):
    """Name such as 'cuda:1' or 'mps' -> torch.device; None: `default_device`. SettingError if this machine lacks it."""
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch without CUDA asserts
        raise SettingError(f'device {name!r}: {str(error).splitlines()[0]}; here there is '
                           f'{", ".join(_names())}') from None
    return device


def _names():
    if not torch.accelerator.is_available():
        return ['cpu']
    kind = torch.accelerator.current_accelerator().type
    return ['cpu', *(f'{kind}:{number}' for number in range(torch.accelerator.device_count()))]


@contextlib.contextmanager
def using_device(name=None):
    """Inside, `default_device` is the device of this name, such as 'cpu' or 'cuda:1'; None changes nothing.

    A name without a number stands for this rank's device of that kind.

    Raises:
        SettingError: this machine lacks it.
    """
    global _chosen
    before = _chosen
    if name is not None:
        find_device(name)
        _chosen = torch.device(name)
        if _chosen.type != 'cpu' and _chosen.index is not None:
            set_device_number(_chosen.index)
    try:
        yield
    finally:
        _chosen = before


def chosen_number():
    """Number of the device that `using_device` chose, None where it chose none."""
    return None if _chosen is None else _chosen.index


def set_device_number(number):
    """Make an accelerator's device the current one of this process."""
    # The first name is that of torch 2.8 and newer.
    choose = getattr(torch.accelerator, 'set_device_index', None) or torch.accelerator.set_device_idx
    choose(number)


def device_name():
    """Name of the default device, such as 'NVIDIA H200'; None of a CPU. Apple's has that of its kind, 'mps'."""
    device = default_device()
    if device.type == 'cpu':
        return None
    name_of = getattr(torch.get_device_module(device), 'get_device_name', None)
    return device.type if name_of is None else name_of()


def synchronize():
    """Wait until the default device has done its work; a CPU has."""
    if default_device().type != 'cpu':
        torch.accelerator.synchronize()


def widest_float(device):
    """float64, or float32 on a device that has no float64 (MPS)."""
    return torch.float64 if _has_float64(torch.device(device).type) else torch.float32


def as_float64(tensor):
    """A tensor in float64: on its device, or on the CPU where the device has no float64 (MPS)."""
    return tensor.double() if _has_float64(tensor.device.type) else tensor.cpu().double()


@functools.cache
def _has_float64(kind):
    try:
        torch.zeros((), dtype=torch.float64, device=kind)
    except (RuntimeError, TypeError):
        return False
    return True


def pins_memory(device):
    """Whether copies from pinned memory to this device need not be waited for."""
    return device.type in _PINNING


def to_device(tensor, device):
    """A new tensor of the CPU on a device; without waiting for the device's earlier work where memory can be pinned."""
    if pins_memory(torch.device(device)):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def peak_memory_bytes():
    """Peak of the allocated memory of the default device; of a CPU, the process's peak resident memory.

    MPS counts no peak: there it is what the driver holds, which includes freed memory that torch keeps.
    """
    device = default_device()
    if device.type != 'cpu':
        module = torch.get_device_module(device)
        for name in ('max_memory_allocated', 'driver_allocated_memory'):
            if hasattr(module, name):
                return getattr(module, name)()
    status = Path('/proc/self/status')  # Linux
    for line in status.read_text('utf-8', 'replace').splitlines() if status.exists() else ():
        if line.startswith('VmHWM:'):
            # KiB. getrusage would include the peak of the parent process.
            return int(line.split()[1]) * 1024
    if sys.platform == 'darwin':
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = psutil.Process().memory_info()
    return getattr(memory, 'peak_wset', memory.rss)  # Windows
