"""Interleaved timing, and peak memory in a process of its own."""

import gc
import re
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds a call: median, and the quartiles around it."""

    seconds: float
    low: float
    high: float


def interleave(functions, rounds, device, warm_up=1):
    """Time functions in turns, so that what else the machine does hits all alike.

    Args:
        functions (dict[str, callable]): name -> work without arguments.
        rounds (int): timed calls of each.
        device (torch.device): synchronised before each reading of the clock if it is a GPU.
        warm_up (int): calls of each before.

    Returns:
        dict[str, list[float]]: seconds of each round; take ratios round by round.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            _synchronize(device)
            start = time.perf_counter()
            function()
            _synchronize(device)
            times[name].append(time.perf_counter() - start)
    return times


def summarize(seconds):
    """Seconds of the rounds -> Timing."""
    ordered = sorted(seconds)
    quarter = len(ordered) // 4
    return Timing(median(ordered), ordered[quarter], ordered[-1 - quarter])


def ratio(numerator, denominator):
    """Median over rounds of the ratio of two works that were timed in the same rounds."""
    return median(above / below for above, below in zip(numerator, denominator, strict=True))


def peak_bytes(build, device):
    """Peak memory of the work that ``build()`` returns, called once; over what was in use before ``build``.

    On a GPU what the allocator held; on Linux otherwise the resident set of this process, so call it in a fresh one.
    """
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        build()()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    before = _status_bytes('VmRSS')
    work = build()
    Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # the high-water mark starts again from here
    work()
    return max(_status_bytes('VmHWM'), _status_bytes('VmRSS')) - before


def _status_bytes(field):
    text = Path('/proc/self/status').read_text(encoding='ascii')
    return int(re.search(rf'{field}:\s+(\d+) kB', text)[1]) * 1024


def _synchronize(device):
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
