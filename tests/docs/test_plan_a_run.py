"""The page on planning prints what its commands print."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/plan_a_run.md').read_text(encoding='utf-8')


@pytest.mark.slow
def test_the_plan_is_that_of_the_tool(tool, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    block, = re.findall(r'^```console\n\$ python tools/(.*?)\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE)
    command, printed = block
    path, *arguments = shlex.split(command)
    tool(path.removesuffix('.py'))(*arguments)
    assert capsys.readouterr().out == printed


def test_every_option_on_the_page_exists():
    tools = ''.join((ROOT / f'tools/analysis_tools/{name}.py').read_text(encoding='utf-8')
                    for name in ('memory_forecast', 'plan_run'))
    known = tools + (ROOT / 'wfvae_toolkit/utils/options.py').read_text(encoding='utf-8')
    for option in set(re.findall(r'--[a-z][a-z-]+', PAGE)):
        assert f"'{option}'" in known, option
