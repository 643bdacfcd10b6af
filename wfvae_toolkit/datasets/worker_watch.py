"""Worker processes that die or hang name the sample that they were at."""

import atexit
import contextlib
import functools
import os
import re
import signal
import threading
import time
import weakref

import torch
from torch.utils.data import DataLoader, get_worker_info

from ..utils.errors import UserError
from ..utils.signals import shield_worker

_LOADERS = weakref.WeakSet()
_ITERATORS = weakref.WeakSet()  # those with workers


class WorkerLost(UserError, RuntimeError):
    """A worker process died, or gave nothing for too long; the message names the sample."""


class WatchedLoader(DataLoader):
    """A DataLoader whose workers note what they read, in memory that this process sees too.

    Raises, while iterating:
        WorkerLost: a worker died, or none gave a batch for ``timeout`` seconds.
        UserError: a worker's own. PyTorch would make the worker's traceback its message.
    """

    def __init__(self, dataset, *args, num_workers=0, collate_fn=None, **kwargs):
        # A row a worker: process id, index of the sample + 1 (0: idle), when it began (monotonic seconds).
        self._notes = torch.zeros(num_workers, 3, dtype=torch.float64).share_memory_()
        start = functools.partial(_start_worker, self._notes) if num_workers else None
        if num_workers and collate_fn is not None:
            collate_fn = functools.partial(_collate, collate_fn)
        super().__init__(dataset, *args, num_workers=num_workers, worker_init_fn=start, collate_fn=collate_fn, **kwargs)
        _LOADERS.add(self)

    def __iter__(self):
        batches = super().__iter__()  # now: the sampler's position is that of this moment
        if not self.num_workers:
            return batches
        _ITERATORS.add(batches)
        return self._watched(batches)

    def _watched(self, batches):
        _deaths.install()
        while True:
            try:
                with _deaths.reported():
                    batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                lost = self._lost(error) if isinstance(error, (RuntimeError, OSError, EOFError)) else None
                self._discard(batches)
                if lost is None:
                    raise
                raise lost from error
            if isinstance(batch, UserError):
                self._discard(batches)
                raise batch
            yield batch

    def _discard(self, batches):
        # An error's traceback is a cycle that holds the iterator. The garbage collector would close the queues first,
        # through which it then tells its workers to end, and wait ten seconds for them.
        batches._shutdown_workers()
        if self._iterator is batches:  # persistent workers
            self._iterator = None

    def _lost(self, error):
        """An error while a batch was waited for -> WorkerLost; None where no worker is to blame."""
        text = str(error).strip().rstrip('.')
        if text.startswith('Caught '):  # a worker's own, handed on
            return None
        if 'timed out' in text:
            samples = _samples([self])
            for process, number, _ in self._notes.tolist():
                if number:  # it would not listen
                    os.kill(int(process), signal.SIGKILL)
            return WorkerLost(f'no batch for {self.timeout:g} s; at work were {samples}. Look at that file and at its '
                              'disk, or raise timeout_s of the dataloader (0 waits for ever)')
        if text.startswith('DataLoader '):
            # Perhaps a worker of another loader: training waits while validation reads.
            samples = _samples(_LOADERS, lambda process: re.search(rf'\b{process}\b', text))
        else:  # a batch was there, but the process that holds it was gone
            samples = _samples([self], _has_ended)
            if not samples:
                return None
        return WorkerLost(f'a data worker died ({text}); it had been at {samples or "no sample"}. "Killed" often means '
                          'that memory ran out: use fewer num_workers or smaller files')


@atexit.register
def _end_workers():
    # Persistent workers are there until the process ends. multiprocessing, whose turn comes later, would send them the
    # one SIGTERM that they outlast, and wait for them for ever.
    for batches in list(_ITERATORS):
        batches._shutdown_workers()


def _samples(loaders, chosen=None):
    """The samples at which workers are: of all processes, or of those for which ``chosen`` holds."""
    found = []
    for loader in loaders:
        for process, number, began in loader._notes.tolist():
            if number and (chosen is None or chosen(int(process))):
                index = int(number) - 1
                found.append(f'sample {index} ({loader.dataset.path(index)!r}) for {time.monotonic() - began:.0f} s')
    return ', '.join(found)


def _has_ended(process, patience_s=2):
    """Whether a child is no more, soon; it may be at its end already when its connections close."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        time.sleep(0.05)
    return False


def _start_worker(notes, worker_id):
    # One thread each: workers that all use every core slow each other and the training down.
    torch.set_num_threads(1)
    shield_worker()
    note = notes[worker_id]
    note[:2] = torch.tensor([os.getpid(), 0])
    dataset = get_worker_info().dataset
    # PyTorch's hook to load the samples of a batch together; of this process's copy alone.
    dataset.__getitems__ = functools.partial(_load, dataset, note)


def _load(dataset, note, keys):
    """Samples of the keys; or, in their place, the UserError that the first one met."""
    samples = []
    for key in keys:
        index = key if isinstance(key, int) else key.index
        note[2], note[1] = time.monotonic(), index + 1
        try:
            samples.append(dataset[key])
        except UserError as error:
            note[1] = 0
            return error
    note[1] = 0
    return samples


def _collate(collate, samples):
    """A batch; or, in its place, the UserError of a worker, which the main process raises."""
    try:
        return samples if isinstance(samples, UserError) else collate(samples)
    except UserError as error:
        return error


class _Deaths:
    """PyTorch's handler of SIGCHLD, which raises wherever the process is, held back until a batch is waited for."""

    def __init__(self):
        self._handler = None
        self._waiting = False

    def install(self):
        """To be called when workers were started: PyTorch has set its handler then."""
        if not hasattr(signal, 'SIGCHLD') or threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGCHLD)
        if handler != self._handle and callable(handler):
            self._handler = handler
            signal.signal(signal.SIGCHLD, self._handle)

    @contextlib.contextmanager
    def reported(self):
        """A context in which a death, or one since the last context, raises PyTorch's RuntimeError."""
        self._waiting = True
        try:
            self._handle(None, None)
            yield
        finally:
            self._waiting = False

    def _handle(self, number, frame):
        if self._waiting and self._handler is not None:
            self._handler(number, frame)


_deaths = _Deaths()
