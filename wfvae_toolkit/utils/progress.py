"""How far a long job is: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from datetime import timedelta

from tqdm import tqdm

from . import distributed

LINE_S = 30.0  # between two lines of a log; work that takes less gives none


def progress(items, what, total, file=None):
    """Yield ``items``; rank 0 shows how many are done and about how long the others will take.

    Args:
        items (iterable): the work.
        what (str): what is done to them, such as 'pictures scored'.
        total (int): how many there are.
        file (TextIO): standard error by default. On a terminal tqdm draws a bar, which goes when the work is done.
    """
    file = file or sys.stderr
    if not distributed.is_main():
        return items
    if file.isatty():
        return tqdm(items, what, total, file=file, leave=False)
    return _with_lines(items, what, total, file)


def _with_lines(items, what, total, file):
    start = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - said >= LINE_S:
            said = now
            gone, left = (timedelta(seconds=round(seconds)) for seconds in (
                now - start, (now - start) / done * (total - done)))
            print(f'{what}: {done} of {total}, {gone} gone, about {left} left', file=file, flush=True)
        yield item
