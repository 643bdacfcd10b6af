"""Hides what Windows and macOS lack from a process that has this folder on PYTHONPATH, and from all that it starts.

SIGCHLD stays: torch itself uses it here, and on Windows does not. psutil comes first: on Linux it needs `resource`.
"""

import multiprocessing
import os
import pathlib
import platform
import signal
import sys

import psutil  # noqa: F401

for module in ('resource', 'fcntl'):
    sys.modules[module] = None
for name in ('fork', 'forkpty', 'sched_getaffinity', 'sched_setaffinity', 'waitid', 'mkfifo'):
    delattr(os, name)
for name in ('SIGUSR1', 'SIGUSR2', 'SIGKILL', 'SIGHUP', 'SIGQUIT'):
    delattr(signal, name)
platform.system = lambda: 'Windows'  # MMEngine asks for it
multiprocessing.set_start_method('spawn', force=True)


def without_proc(name, instead):
    """A method of Path for which there is no /proc."""
    method = getattr(pathlib.Path, name)

    def called(self, *args, **options):
        if not str(self).startswith('/proc'):
            return method(self, *args, **options)
        if instead is None:
            raise FileNotFoundError(str(self))
        return instead
    setattr(pathlib.Path, name, called)


for name, instead in {'exists': False, 'is_file': False, 'read_text': None, 'open': None}.items():
    without_proc(name, instead)
