"""Which files could not be used: written once each, and counted."""

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from ..utils.errors import UserError


class BadFile(NamedTuple):
    """A file that was asked for and not used."""

    path: str
    reason: str


class TooManyBadFiles(UserError, RuntimeError):
    """More distinct bad files than the run accepts."""


class BadFileLog:
    """A JSON-lines file, ``{"path":, "reason":}`` a line, that holds each bad path once.

    Several processes may append to one file. What an earlier run wrote counts too, so the limit
    holds over a resumed run.

    Args:
        path (str | Path): the file; it is created with the first bad file.
        limit (int): how many distinct bad files are accepted.
        total (int, optional): size of the dataset, for the message.
        option (str): name of the setting that holds ``limit``, for the message.
    """

    def __init__(self, path, limit, total=None, option='max_bad_files'):
        self.path = Path(path)
        self.limit = limit
        self.total = total
        self.option = option
        self._known = set()
        if self.path.exists():
            self._known = _paths(self.path.read_text(encoding='utf-8'))

    def __len__(self):
        """Distinct bad files seen so far, by this process or before its last new one by any."""
        return len(self._known)

    def add(self, bad_files):
        """Append what is new among ``bad_files`` (iterable of `BadFile`).

        Raises:
            TooManyBadFiles: the file now holds more than ``limit`` paths.
        """
        bad_files = list(bad_files)
        if not bad_files:
            return
        if any(bad.path not in self._known for bad in bad_files):
            self._append(bad_files)
        if len(self._known) > self.limit:
            of = f' of {self.total}' if self.total is not None else ''
            raise TooManyBadFiles(
                f'{len(self._known)}{of} files could not be used, {self.limit} are accepted; the last is '
                f'{bad_files[-1].path} ({bad_files[-1].reason}). Look at {self.path}, mend or remove the files, '
                f'or raise {self.option}')

    def _append(self, bad_files):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, 'a+', encoding='utf-8') as file, _locked(file):
            file.seek(0)
            text = file.read()
            self._known = _paths(text)
            if text and not text.endswith('\n'):
                file.write('\n')  # a crash tore the last line
            for bad in bad_files:
                if bad.path not in self._known:
                    self._known.add(bad.path)
                    # ASCII only: a file name need not be valid UTF-8.
                    file.write(json.dumps(bad._asdict()) + '\n')


def _paths(text):
    """The paths in a log; a line that a crash tore is passed over."""
    paths = set()
    for line in text.splitlines():
        with contextlib.suppress(ValueError, LookupError, TypeError):
            paths.add(json.loads(line)['path'])
    return paths


@contextlib.contextmanager
def _locked(file):
    """Hold the file for this process alone. Windows has no such call: there one process writes."""
    if os.name != 'posix':
        yield
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)  # released with the file, should we die
    try:
        yield
    finally:
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
