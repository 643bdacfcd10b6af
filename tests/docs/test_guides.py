"""The guides, followed from top to bottom: a python block is a file, a console block a command and what it printed."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from wfvae_toolkit.datasets.demo import make_demo_data

ROOT = Path(__file__).resolve().parents[2]
PAGES = ['add_a_loss.md', 'add_a_discriminator.md', 'latent_transforms.md', 'my_pictures_have.md', 'recipes.md',
         'finetune_your_vae.md', 'which_number.md']
NUMBER = re.compile(r'\b[0-9a-f]{16}\b|(?<![A-Za-z_])-?\d[\d.:]*(e[+-]?\d+)?')  # or a digest of weights


def blocks(page):
    """[(language, text)] of a page."""
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    return re.findall(r'^```(\w*)\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def commands(text):
    """[(command, expected lines)] of a console block."""
    examples = re.split(r'^\$ ', text, flags=re.MULTILINE)[1:]
    return [(command, rest.splitlines()) for command, _, rest in (example.partition('\n') for example in examples)]


def plain(line, folder):
    """A line without the time of the log, paths of this machine, digests, digits and the widths that go with them."""
    line = re.sub(r'^\d\d/\d\d [\d:]+ - mmengine - ', '', line).replace(f'{folder}/', '')
    return re.sub(r'\s+', ' ', NUMBER.sub('N', line)).strip()


def assert_printed(expected, output, folder):
    """Each expected line stands in the output, in this order; only `...` stands for lines left out."""
    printed, place = [plain(line, folder) for line in output.splitlines()], 0
    gap = False
    for line in expected:
        if line == '...':
            gap = True
            continue
        wanted = plain(line, folder)
        found = printed.index(wanted, place) if wanted in printed[place:] else None
        assert found is not None, f'{line!r} is not in\n{output[-4000:]}'
        assert gap or found == place, f'lines before {line!r} are left out without `...`: {printed[place:found]}'
        place, gap = found + 1, False
    assert gap or place == len(printed), f'the page leaves out {printed[place:]}'


@pytest.mark.parametrize('page', PAGES)
def test_every_block_is_a_file_or_a_command_with_its_output(page):
    for language, text in blocks(page):
        assert language in ('python', 'console')
        if language == 'python':
            assert re.match(r'# \w+\.py\n', text)
        else:
            assert commands(text)
            assert all(expected for _, expected in commands(text))


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES)
def test_a_guide_as_a_user_follows_it(launch, tmp_path, page):
    for name in ('tools', 'configs', 'wfvae_toolkit'):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
    make_demo_data(tmp_path / 'data/demo')
    environment = {'PATH': f'{Path(sys.executable).parent}:/usr/bin:/bin', 'PYTHONPATH': str(tmp_path)}
    for language, text in blocks(page):
        if language == 'python':
            (tmp_path / re.match(r'# (\w+\.py)\n', text)[1]).write_text(text, encoding='utf-8')
            continue
        for command, expected in commands(text):
            done = launch('bash', '-c', f'({command}) 2>&1', cwd=tmp_path, env=environment, check=False)
            assert_printed(expected, done.stdout, tmp_path)
            assert bool(done.returncode) == any(line.startswith('error: ') for line in expected), done.stdout[-3000:]


LINK = re.compile(r'\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)')
LINKED = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def anchors(path):
    """Names of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', path.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', LINKED, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    text = re.sub(r'^```.*?^```$', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in LINK.findall(text):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f'{page.name}: {target}'
        assert not anchor or anchor in anchors(path), f'{page.name}: {target}#{anchor}'


def test_files_to_read_are_six_and_are_there():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    read = re.search(r'^## Read the code\n(.*?)^## ', text, re.MULTILINE | re.DOTALL)[1]
    files = re.findall(r'^\d\. \[`[^`]*`\]\(([^)]*)\)', read, re.MULTILINE)
    assert len(files) == 6
    assert all((ROOT / file).is_file() for file in files)


def test_one_iteration_names_what_the_code_has():
    """Names of functions and classes in the page stand in the file that is linked beside them."""
    text = (ROOT / 'docs/one_iteration.md').read_text(encoding='utf-8')
    pairs = re.findall(r'`([\w.]+)` in \[[^\]]*\]\(\.\./([^)]*\.py)\)', text)
    assert len(pairs) >= 10
    for name, file in pairs:
        assert re.search(rf'(def|class) {name.split(".")[-1]}\b', (ROOT / file).read_text(encoding='utf-8')), name
