"""How far a long job is, for whoever watches."""

import sys
import time

INTERVAL_S = 0.5  # between two lines: writing each costs more than some steps do


def progress(items, total, title, file=None):
    """Yield ``items``; rewrite ``title: done/total, minutes left`` on a terminal, and nothing anywhere else.

    Args:
        items (iterable): the work.
        total (int): how many there are.
        title (str): what is done.
        file (TextIO): standard error by default.
    """
    file = file or sys.stderr
    if not file.isatty():
        yield from items
        return
    start = shown = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):  # noqa: B007 - read after the loop
        yield item
        now = time.monotonic()
        if now - shown >= INTERVAL_S:
            shown = now
            minutes = (now - start) / done * (total - done) / 60
            file.write(f'\r{title}: {done}/{total}, {minutes:.1f} min left\033[K')
            file.flush()
    file.write(f'\r{title}: {done}/{total}\033[K\n')
