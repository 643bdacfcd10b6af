"""When a worker process dies or hangs, name the sample that it was reading."""

import atexit
import contextlib
import functools
import os
import re
import signal
import threading
import time
import weakref

import psutil
import torch
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from ..utils.errors import UserError
from ..utils.signals import shield_worker
from .images import keep_memory

_LOADERS = weakref.WeakSet()
_ITERATORS = weakref.WeakSet()  # those with workers
_LOOK_S = 5.0  # how often a waiting loader looks whether its workers live


class WorkerLost(UserError, RuntimeError):
    """A worker process died, or no batch came in time; the message names the sample."""


class WatchedLoader(DataLoader):
    """A DataLoader whose workers note in shared memory which sample they read.

    Raises, while iterating:
        WorkerLost: a worker died, or no batch came for ``timeout`` seconds.
        UserError: one from a worker, unchanged. PyTorch alone would make the traceback of the worker its message.
    """

    def __init__(self, dataset, *args, num_workers=0, collate_fn=None, **kwargs):
        # One row per worker: process id, index of the sample + 1 (0: idle), start in monotonic seconds.
        self._notes = torch.zeros(num_workers, 3, dtype=torch.float64).share_memory_()
        start = functools.partial(_start_worker, self._notes) if num_workers else None
        if num_workers and collate_fn is not None:
            collate_fn = functools.partial(_collate, collate_fn)
        keep_memory()
        super().__init__(dataset, *args, num_workers=num_workers, worker_init_fn=start, collate_fn=collate_fn, **kwargs)
        _LOADERS.add(self)

    def __iter__(self):
        batches = super().__iter__()  # not in the generator below: the sampler's position is read now
        if not self.num_workers:
            return batches
        _ITERATORS.add(batches)
        return self._watched(batches)

    def _get_iterator(self):
        if not self.num_workers:
            return super()._get_iterator()
        self.check_worker_number_rationality()
        return _LookingIterator(self)

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
        # The traceback of an error holds the iterator in a cycle. The garbage collector could close the queues first,
        # through which the iterator tells its workers to end; it would then wait ten seconds for them.
        batches._shutdown_workers()
        if self._iterator is batches:  # persistent workers
            self._iterator = None

    def _lost(self, error):
        """Error that came instead of a batch -> WorkerLost; None if no worker caused it."""
        text = str(error).strip().rstrip('.')
        if text.startswith('Caught '):  # raised in a worker and passed on by PyTorch
            return None
        if 'timed out' in text:
            samples = _samples([self])
            for process, number, _ in self._notes.tolist():
                if number:  # a hung worker does not obey a request to end
                    with contextlib.suppress(psutil.NoSuchProcess):
                        psutil.Process(int(process)).kill()
            return WorkerLost(f'no batch came for {self.timeout:g} s; the workers were reading {samples}. Look at that '
                              'file and at its disk, or raise timeout_s of the dataloader (0 waits for ever)')
        if text.startswith('DataLoader '):
            # It may be a worker of another loader: those of training wait while validation reads.
            samples = _samples(_LOADERS, lambda process: re.search(rf'\b{process}\b', text))
        else:  # the batch was ready, but the process that holds its memory had ended
            samples = _samples([self], _has_ended)
            if not samples:
                return None
        return WorkerLost(f'a data worker died ({text or type(error).__name__}); it was reading '
                          f'{samples or "no sample"}. "Killed" often means that memory ran out: use fewer num_workers '
                          'or smaller files')


class _LookingIterator(_MultiProcessingDataLoaderIter):
    """Looks at the workers every `_LOOK_S` while it waits; PyTorch's own does not before its ``timeout`` is over.

    The signal of a worker's death does not end the wait if it comes right before Python begins to wait.
    """

    def _try_get_data(self, timeout=_LOOK_S):
        end = time.monotonic() + timeout
        while True:
            remaining = end - time.monotonic()
            found = super()._try_get_data(max(0.0, min(_LOOK_S, remaining)))
            if found[0] or remaining <= _LOOK_S:
                return found


@atexit.register
def _end_workers():
    # Persistent workers run until the process ends. multiprocessing, which cleans up later, would send one SIGTERM,
    # which the workers ignore, and wait for them for ever.
    for batches in list(_ITERATORS):
        batches._shutdown_workers()


def _samples(loaders, chosen=None):
    """Samples that workers are reading: all workers, or those whose process id ``chosen`` accepts."""
    found = []
    for loader in loaders:
        for process, number, began in loader._notes.tolist():
            if number and (chosen is None or chosen(int(process))):
                index = int(number) - 1
                found.append(f'sample {index} ({loader.dataset.path(index)!r}) for {time.monotonic() - began:.0f} s')
    return ', '.join(found)


def _has_ended(process, patience_s=2):
    """Whether a worker exits within ``patience_s``. Its connections may close before the process has ended."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def _start_worker(notes, worker_id):
    # One thread per worker: if each used every core, they would slow each other and the training.
    torch.set_num_threads(1)
    keep_memory()
    shield_worker()
    note = notes[worker_id]
    note[:2] = torch.tensor([os.getpid(), 0])
    dataset = get_worker_info().dataset
    # PyTorch calls __getitems__ for all samples of a batch. Set on the copy of the dataset in this process only.
    dataset.__getitems__ = functools.partial(_load, dataset, note)


def _load(dataset, note, keys):
    """Samples of the keys; or the first UserError in place of the list."""
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
    """A batch; or in its place a UserError, which the main process raises."""
    try:
        return samples if isinstance(samples, UserError) else collate(samples)
    except UserError as error:
        return error


class _Deaths:
    """Delays PyTorch's handler of SIGCHLD, which raises at any line of the program, until a batch is awaited."""

    def __init__(self):
        self._handler = None
        self._waiting = False

    def install(self):
        """Call this after workers have started, when PyTorch has set its handler."""
        if not hasattr(signal, 'SIGCHLD') or threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGCHLD)
        if handler != self._handle and callable(handler):
            self._handler = handler
            signal.signal(signal.SIGCHLD, self._handle)

    @contextlib.contextmanager
    def reported(self):
        """Context in which the death of a worker, also one before it, raises PyTorch's RuntimeError."""
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
