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


def seconds_of(call, device, tries=5):
    """Seconds of one call, the fastest of ``tries``; on a GPU the mean of ``tries`` calls, by its own clock."""
    call()
    if device.type == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(tries):
            call()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000 / tries
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def summarize(seconds):
    """Seconds of the rounds -> Timing."""
    ordered = sorted(seconds)
    quarter = len(ordered) // 4
    return Timing(median(ordered), ordered[quarter], ordered[-1 - quarter])


def ratio(numerator, denominator):
    """Median over rounds of the ratio of two works that were timed in the same rounds."""
    return median(above / below for above, below in zip(numerator, denominator, strict=True))


def peak_bytes(build):
    """Peak resident set of this process in the work that ``build()`` returns, called once; over what it was before.

    For Linux, and for a fresh process: the allocator of an old one holds on to memory.
    """
    gc.collect()
    before = resident_bytes()
    return highest_resident(build()) - before


def highest_resident(work):
    """Largest resident set of this process while ``work()`` runs, in bytes; for Linux."""
    Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # the high-water mark starts again from here
    work()
    return max(_status_bytes('VmHWM'), resident_bytes())


def resident_bytes():
    """Resident set of this process, in bytes; for Linux."""
    return _status_bytes('VmRSS')


class AllocatedWork:
    """Work on a GPU that knows its memory.

    Attributes:
        held_bytes (int): what ``build`` allocated: weights and inputs.
    """

    def __init__(self, build, device):
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        self.device, self._work = device, build()
        self.held_bytes = torch.cuda.memory_allocated(device) - before

    def __call__(self):
        return self._work()

    def peak_bytes(self):
        """Peak of the allocator in one more call, with ``held_bytes`` and without what others hold."""
        gc.collect()
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before + self.held_bytes


def _status_bytes(field):
    text = Path('/proc/self/status').read_text(encoding='ascii')
    return int(re.search(rf'{field}:\s+(\d+) kB', text)[1]) * 1024


def _synchronize(device):
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
