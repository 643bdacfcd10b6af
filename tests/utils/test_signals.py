import os
import signal
import time

import pytest

from wfvae_toolkit.utils import signals
from wfvae_toolkit.utils.signals import SIGNALS, StopRequest, shield_worker, tell_launcher


def in_child(function):
    """Exit code of a forked process that calls ``function``, minus the signal's number if one ended it."""
    process = os.fork()
    if not process:
        try:
            function()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize('number', SIGNALS)
def test_the_first_signal_is_kept_and_ends_nothing(number):
    before = [signal.getsignal(other) for other in SIGNALS]
    with StopRequest() as request:
        assert request.signal == 0
        os.kill(os.getpid(), number)
        assert request.signal == number
        # The same request on another way, such as from a terminal and from torchrun.
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == number
    assert [signal.getsignal(other) for other in SIGNALS] == before


@pytest.mark.parametrize('number', SIGNALS)
def test_a_second_one_ends_the_process_at_once(number, monkeypatch):
    monkeypatch.setattr(signals, 'SAME_REQUEST_S', 0.01)

    def run():
        with StopRequest():
            for _ in range(2):
                os.kill(os.getpid(), number)
                time.sleep(0.05)

    assert in_child(run) == -number


def test_workers_outlast_signals_to_the_whole_group_but_not_being_ended():
    def run(terminations):
        shield_worker()
        for number in (signal.SIGINT, signal.SIGUSR1, *[signal.SIGTERM] * terminations):
            os.kill(os.getpid(), number)

    assert in_child(lambda: run(1)) == 0
    assert in_child(lambda: run(2)) == -signal.SIGTERM


@pytest.mark.parametrize(('restarts', 'rank', 'told'), [('3', '0', True), ('3', '1', False), ('0', '0', False)])
def test_only_a_launcher_that_would_start_again_is_told(monkeypatch, restarts, rank, told):
    monkeypatch.setenv('TORCHELASTIC_MAX_RESTARTS', restarts)
    monkeypatch.setenv('LOCAL_RANK', rank)
    sent = []
    monkeypatch.setattr(os, 'kill', lambda process, number: sent.append((process, number)))
    tell_launcher(signal.SIGUSR1)
    assert sent == [(os.getppid(), signal.SIGUSR1)] * told
