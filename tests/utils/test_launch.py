"""torchrun as `tools/launch.sh` calls it, also that of older versions of torch."""

from torch.distributed import run as torchrun

from wfvae_toolkit.utils import launch

ARGUMENTS = ['--max-restarts', '0', '--shutdown-timeout', '120', 'train.py', '--resume']


def test_a_torchrun_without_the_timeout_is_called_without_it(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(torchrun, 'main', called.append)
    monkeypatch.setattr(launch, 'knows_timeout', lambda: False)
    launch.main(ARGUMENTS)
    assert called == [['--max-restarts', '0', 'train.py', '--resume']]
    assert '30 s, not 120 s (STOP_TIMEOUT)' in capsys.readouterr().err


def test_a_torchrun_with_the_timeout_gets_it(monkeypatch):
    called = []
    monkeypatch.setattr(torchrun, 'main', called.append)
    monkeypatch.setattr(launch, 'knows_timeout', lambda: True)
    launch.main(ARGUMENTS)
    assert called == [ARGUMENTS]
