"""docs/configs.md: every command prints what the page says."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/configs.md').read_text(encoding='utf-8')


def examples():
    """(command, printed) of the page's console blocks."""
    for block in re.findall(r'^```console\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE):
        for example in re.split(r'^\$ ', block, flags=re.MULTILINE)[1:]:
            command, _, printed = example.partition('\n')
            yield command, printed


@pytest.mark.parametrize(('command', 'printed'), list(examples()))
def test_command_prints_what_the_page_says(tool, capsys, monkeypatch, command, printed):
    monkeypatch.chdir(ROOT)
    python, script, *arguments = shlex.split(command)
    assert (python, script) == ('python', 'tools/analysis_tools/print_config.py')
    if printed.startswith('error:'):
        with pytest.raises(SystemExit) as exit_:
            tool('analysis_tools/print_config')(*arguments)
        assert f'{exit_.value.code}\n' == printed
        return
    tool('analysis_tools/print_config')(*arguments)
    out = capsys.readouterr().out
    assert out == printed if printed else 'default_hooks = dict(' in out


def test_every_kind_of_change_is_shown():
    printed = ''.join(printed for _, printed in examples())
    assert {'+', '-', '~', 'e'} == {line[0] for line in printed.splitlines()}
