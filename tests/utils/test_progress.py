import io

import pytest

from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils import progress as module
from wfvae_toolkit.utils.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def minutes(monkeypatch):
    """Each look at the clock is a minute after the one before."""
    seconds = iter(range(0, 6000, 60))
    monkeypatch.setattr(module.time, 'monotonic', lambda: next(seconds))


def test_a_log_gets_lines_with_the_time_that_is_left(minutes):
    log = io.StringIO()
    assert list(progress(iter('abcd'), 'letters read', 4, log)) == list('abcd')
    assert log.getvalue().splitlines() == [
        'letters read: 1 of 4, 0:02:00 gone, about 0:06:00 left',
        'letters read: 2 of 4, 0:03:00 gone, about 0:03:00 left',
        'letters read: 3 of 4, 0:04:00 gone, about 0:01:20 left']


def test_short_work_gives_no_line():
    log = io.StringIO()
    assert list(progress('abcd', 'letters read', 4, log)) == list('abcd')
    assert log.getvalue() == ''


def test_a_terminal_gets_a_bar_that_goes_away():
    terminal = Terminal()
    assert list(progress('abcd', 'letters read', 4, terminal)) == list('abcd')
    assert 'letters read:   0%' in terminal.getvalue()
    assert terminal.getvalue().endswith('\r')


def test_rank_0_alone_speaks(monkeypatch, minutes):
    monkeypatch.setattr(distributed, 'is_main', lambda: False)
    log = io.StringIO()
    assert list(progress('abcd', 'letters read', 4, log)) == list('abcd')
    assert log.getvalue() == ''
