"""torchrun as `tools/launch.sh` calls it, also that of older versions of torch."""

import argparse

import pytest
from torch.distributed import run as torchrun

from wfvae_toolkit.utils import launch

ARGUMENTS = ['--max-restarts', '0', '--shutdown-timeout', '120', '--signals-to-handle', 'SIGTERM,SIGUSR1', 'train.py',
             '--resume']


@pytest.fixture
def called(monkeypatch):
    """Lists of arguments that torchrun gets."""
    calls = []
    monkeypatch.setattr(torchrun, 'main', calls.append)
    return calls


def test_a_torchrun_without_newer_options_is_called_without_them(called, monkeypatch, capsys):
    older = argparse.ArgumentParser()
    older.add_argument('--max-restarts')
    monkeypatch.setattr(torchrun, 'get_args_parser', lambda: older)
    launch.main(ARGUMENTS)
    assert called == [['--max-restarts', '0', 'train.py', '--resume']]
    said = capsys.readouterr().err
    assert 'no --shutdown-timeout 120: after a signal the processes get 30 s' in said
    assert 'no --signals-to-handle SIGTERM,SIGUSR1: it passes on SIGTERM' in said


def test_a_torchrun_with_them_gets_them(called, monkeypatch):
    newer = argparse.ArgumentParser()
    for option in ('--max-restarts', '--shutdown-timeout', '--signals-to-handle'):
        newer.add_argument(option)
    monkeypatch.setattr(torchrun, 'get_args_parser', lambda: newer)
    launch.main(ARGUMENTS)
    assert called == [ARGUMENTS]
