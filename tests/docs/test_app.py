"""The app runs until Ctrl-C, so its page's commands are parsed here; tests/browser runs the app."""

import configparser
import inspect
import re
import shlex

import pytest

from tests.docs.conftest import DOCS
from tests.helpers import load_module
from wfvae_toolkit.app import page as app_page

app = load_module(DOCS.parent / 'tools/app.py')
TEXT = (DOCS / 'app.md').read_text(encoding='utf-8')


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)


def test_every_command_is_one_that_the_tool_takes():
    [block] = blocks('bash')
    install, *commands = [shlex.split(line) for line in block.splitlines()]
    parsed = [app.parse_arguments(words[2:]) for words in commands if words[:2] == ['python', 'tools/app.py']]
    assert [len(options.model) for options in parsed] == [1, 2]
    assert len(parsed) == len(commands)
    setup = configparser.ConfigParser()
    setup.read(DOCS.parent / 'setup.cfg')
    assert install == ['pip', 'install', 'wfvae_toolkit[app]']
    assert 'app' in setup['options.extras_require']


def test_the_expected_output_is_what_it_prints():
    [line] = blocks('text')
    before, after = line.strip().split('http://127.0.0.1:7860/')
    assert f"'{before}{{blocks.local_url}}{after}'" in inspect.getsource(app_page.serve)
    assert app.parse_arguments(['MODEL']).port == 7860
    assert app.parse_arguments(['MODEL']).host == '127.0.0.1'


@pytest.mark.parametrize('option', sorted(set(re.findall(r'--[a-z]+', TEXT))))
def test_every_option_exists(option):
    assert app.parse_arguments(['MODEL', option, '1'])


def test_its_picture_is_small():
    [name] = re.findall(r'\]\((images/\S+)\)', TEXT)
    assert 0 < (DOCS / name).stat().st_size < 150_000
