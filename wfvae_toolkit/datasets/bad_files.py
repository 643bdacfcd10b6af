"""A log of files that could not be used: it lists each file once."""

import contextlib
import json
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
    """A file of JSON lines, ``{"path":, "reason":}``, that holds each bad path once.

    Lines of a split other than training also have ``"split"``. Each split counts its own lines.

    Several processes may append to one file. Lines of an earlier run count too, so that the limit holds for a run and
    its resumption together.

    Args:
        path (str | Path): the file; it is created with the first bad file.
        limit (int): number of different bad files that are accepted.
        total (int, optional): number of files in the dataset, for the message.
        option (str): name of the setting that holds ``limit``, for the message.
        split (str, optional): such as ``'val'``; None: training.
    """

    def __init__(self, path, limit, total=None, option='max_bad_files', split=None):
        self.path = Path(path)
        self.limit = limit
        self.total = total
        self.option = option
        self.split = split
        self._known = self._read()  # path -> reason
        self._told = set(self._known)

    def __len__(self):
        """Number of different bad files in the log when this process last read it, or wrote to it."""
        return len(self._known)

    def add(self, bad_files):
        """Append those of ``bad_files``, an iterable of `BadFile`, that the log does not hold yet.

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
                f'{len(self._known)}{of} files could not be used, at most {self.limit} are accepted; the last is '
                f'{bad_files[-1].path} ({bad_files[-1].reason}). Look at {self.path}, repair or remove the files, '
                f'or raise {self.option}')

    def news(self):
        """list of `BadFile`: what any process has added since the last call, or since this log was opened."""
        self._known = self._read()
        new = [BadFile(path, reason) for path, reason in self._known.items() if path not in self._told]
        self._told.update(self._known)
        return new

    def _read(self):
        return _files(self.path.read_text(encoding='utf-8'), self.split) if self.path.exists() else {}

    def _append(self, bad_files):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, 'a+', encoding='utf-8') as file, _locked(file):
            file.seek(0)
            text = file.read()
            self._known = _files(text, self.split)
            if text and not text.endswith('\n'):
                file.write('\n')  # a crash cut the last line
            for bad in bad_files:
                if bad.path not in self._known:
                    self._known[bad.path] = bad.reason
                    row = {**bad._asdict(), **({} if self.split is None else {'split': self.split})}
                    # ASCII only: a file name need not be valid UTF-8.
                    file.write(json.dumps(row) + '\n')


def _files(text, split):
    """Path -> reason, of the lines of a split. A line that a crash has cut is ignored."""
    files = {}
    for line in text.splitlines():
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            row = json.loads(line)
            if row.get('split') == split:
                files[row['path']] = row['reason']
    return files


@contextlib.contextmanager
def _locked(file):
    """Lock the file for this process. Windows has no such call; there only one process may write."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)  # released with the file if this process dies
    try:
        yield
    finally:
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
