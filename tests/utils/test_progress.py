import io

from wfvae_toolkit.utils import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_items_pass_through_and_only_a_terminal_is_written_to(monkeypatch):
    monkeypatch.setattr(progress, 'INTERVAL_S', 0)
    quiet, terminal = io.StringIO(), Terminal()
    assert list(progress.progress('abc', 3, 'letters', quiet)) == list('abc')
    assert quiet.getvalue() == ''
    assert list(progress.progress(iter('abc'), 3, 'letters', terminal)) == list('abc')
    lines = terminal.getvalue().split('\r')
    assert [line.partition(',')[0].removesuffix('\033[K\n') for line in lines] == [
        '', 'letters: 1/3', 'letters: 2/3', 'letters: 3/3', 'letters: 3/3']
    assert 'min left' in lines[1]


def test_no_item_at_all():
    terminal = Terminal()
    assert list(progress.progress([], 0, 'letters', terminal)) == []
    assert terminal.getvalue() == '\rletters: 0/0\033[K\n'
