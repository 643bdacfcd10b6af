"""Signals that ask a run to stop: it ends at a point from which it can be resumed."""

import contextlib
import os
import signal
import threading
import time

SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGINT', 'SIGUSR1') if hasattr(signal, name))
# Ctrl-C reaches the launcher and its processes, and the launcher sends it on: one request gives two signals.
SAME_REQUEST_S = 2.0


class StopRequest:
    """Inside, the first of SIGNALS sets ``signal`` to its number; a later request ends the process at once.

    Outside the main thread nothing is caught: Python allows signal handlers only there.
    """

    def __init__(self):
        self.signal = 0
        self._since_s = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if not self.signal:
            self.signal, self._since_s = number, time.monotonic()
        elif time.monotonic() - self._since_s > SAME_REQUEST_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def shield_worker():
    """Let a data-loader worker ignore the signals that a terminal, Slurm or torchrun send to all processes of a run.

    A stopped run finishes its iteration and needs the worker until then. The worker exits when the main process tells
    it to or has ended. It ignores only the first SIGTERM: the main process uses SIGTERM to end a worker that hangs.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

    def outlast_first(number, frame):
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, outlast_first)


def tell_launcher(number):
    """Send the same signal to torchrun, so that it stops too and does not restart the processes."""
    if int(os.environ.get('TORCHELASTIC_MAX_RESTARTS', '0')) and os.environ.get('LOCAL_RANK') == '0':
        with contextlib.suppress(ProcessLookupError):
            os.kill(os.getppid(), number)


def was_restarted():
    """Whether torchrun started this process again after a failure."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0
