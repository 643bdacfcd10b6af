"""Pages of docs/ whose blocks run as they are written."""

import re
import shlex
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / 'docs'


class Page:
    """The fenced blocks of a page.

    Args:
        name (str): file in docs/.
        tool (callable): the fixture ``tool``.
    """

    def __init__(self, name, tool):
        self.text, self.tool = (DOCS / name).read_text(encoding='utf-8'), tool

    def blocks(self, language):
        return re.findall(rf'^```{language}\n(.*?)^```$', self.text, re.MULTILINE | re.DOTALL)

    def run_python(self):
        """All python blocks, in order and in one namespace, which is returned."""
        namespace = {}
        for block in self.blocks('python'):
            exec(compile(block, 'docs', 'exec'), namespace)
        return namespace

    def run_commands(self):
        """Every ``python tools/NAME.py ...`` of the bash blocks in this process; returns how many.

        A line that is another command fails: what a page promises is run.
        """
        lines = [line for block in self.blocks('bash') for line in block.splitlines()]
        commands = [words for line in lines if (words := shlex.split(line, comments=True))]
        for python, script, *arguments in commands:
            assert python == 'python', f'{python} {script}: only tools are run'
            self.tool(script.removeprefix('tools/').removesuffix('.py'))(*arguments)
        return len(commands)


@pytest.fixture
def page(tool):
    """'inference.md' -> Page."""
    return lambda name: Page(name, tool)
