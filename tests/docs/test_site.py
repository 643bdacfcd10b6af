"""The site's pages and links, without the generator; `make docs` builds it, tests/browser opens it."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers import load_module

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / 'docs/quickstart.ipynb'


@pytest.fixture(scope='module')
def site():
    """docs/site/pages.py."""
    return load_module(ROOT / 'docs/site/pages.py')


@pytest.fixture(scope='module')
def written(site):
    """{place: text} of every page; the notebook as it is, not executed."""
    return {place: text for place, text in site.site_pages(NOTEBOOK, 'a report').items() if isinstance(text, str)}


def anchors(text):
    """Names of the headings, as repository hosts and the site's generator make them."""
    text = re.sub(r'^```.*?^```$', '', text, flags=re.DOTALL | re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
            for heading in re.findall(r'^#+ (.*)$', text, re.MULTILINE)}


def test_every_page_is_in_the_navigation_once(site, written):
    assert sorted(site.listed_pages()) == sorted(written)


def test_the_navigation_has_the_order_of_the_readme(site):
    sections = [name for section in site.site_navigation() for name in section]
    assert sections == ['Overview', 'Start', 'Train', 'Change an experiment', 'Evaluate', 'Use', 'Extend', 'Operate',
                        'Reference', 'Repository']
    pages = [path for _, section in site.navigation() for _, path in section]
    assert sorted(pages) == sorted(f'docs/{path.name}' for path in (ROOT / 'docs').iterdir() if path.is_file())


def test_every_link_of_the_site_leads_to_a_page_and_a_heading(site, written):
    places = {*site.site_pages(NOTEBOOK, 'a report'), f'{site.REPORT}/index.html'}
    count = 0
    for place, text in written.items():
        outside = re.sub(r'^```.*?^```$|`[^`]*`', '', text, flags=re.DOTALL | re.MULTILINE)
        for link, anchor in re.findall(r'\]\((?![a-z]+:)([^)#]*)(#[^)]*)?\)', outside):
            folder = site.posixpath.dirname(place)
            target = site.posixpath.normpath(site.posixpath.join(folder, link)) if link else place
            assert target in places, f'{place}: {link}'
            assert not anchor or anchor[1:] in anchors(written[target]), f'{place}: {link}{anchor}'
            count += 1
    assert count > 100


@pytest.mark.parametrize(('page', 'link', 'becomes'), [
    ('README.md', 'docs/demo.md', 'demo.md'),
    ('README.md', 'docs/recipes.md#from-scratch', 'recipes.md#from-scratch'),
    ('README.md', 'docs/quickstart.ipynb', 'quickstart.md'),
    ('docs/demo.md', '../README.md#train', 'index.md#train'),
    ('docs/training.md', '../wfvae_toolkit/losses/base.py', 'repository/wfvae_toolkit/losses/base.py.md'),
    ('docs/configs.md', '../projects', 'repository/projects/README.md'),
    ('projects/README.md', '../docs/demo.md', '../../demo.md'),
    ('docs/demo.md', 'https://example.org/a.md', 'https://example.org/a.md'),
    ('docs/demo.md', '#variants', '#variants')])
def test_a_link_of_the_repository_becomes_one_of_the_site(site, page, link, becomes):
    assert site.in_site(page, f'[a]({link})') == f'[a]({becomes})'


def test_links_in_code_stay_as_they_are(site):
    text = '```python\n[a](docs/demo.md)\n```\n'
    assert site.in_site('README.md', text) == text


def test_the_reference_has_every_public_module_once(site, written):
    modules = [module for place, text in written.items() if place.startswith('reference/')
               for module in re.findall(r'^::: (\S+)$', text, re.MULTILINE)]
    files = {path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.').removesuffix('.__init__')
             for path in (ROOT / 'wfvae_toolkit').rglob('*.py')}
    assert sorted(modules) == sorted(name for name in files if not name.rpartition('.')[2].startswith('_'))


def test_outputs_of_the_notebook_become_texts_frames_and_pictures(site, tmp_path):
    outputs = [{'output_type': 'stream', 'name': 'stdout', 'text': ['1\n']},
               {'output_type': 'execute_result', 'data': {'text/plain': ['<x>'], 'text/html': ['<b>', 'x</b>']}},
               {'output_type': 'display_data', 'data': {'text/plain': ['<Figure>'], 'image/png': 'AAAA'}}]
    path = tmp_path / 'a.ipynb'
    path.write_text(json.dumps({'cells': [{'cell_type': 'markdown', 'source': ['# Title']},
                                          {'cell_type': 'code', 'source': ['a = 1'], 'outputs': outputs}]}))
    text, pictures = site.notebook_page(path)
    assert text.startswith('# Title\n\n```python\na = 1\n```\n\n```text\n1\n```\n\n<div><b>x</b></div>\n\n![')
    assert list(pictures.values()) == [bytes(3)]
    assert next(iter(pictures)) in text
    path.write_text(json.dumps({'cells': [{'cell_type': 'code', 'source': [], 'outputs': [
        {'output_type': 'display_data', 'data': {'video/mp4': ''}}]}]}))
    with pytest.raises(ValueError, match='video/mp4'):
        site.notebook_page(path)


def test_the_notebook_holds_programs_and_no_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    code = [cell for cell in cells if cell['cell_type'] == 'code']
    assert len(code) > 5
    for cell in code:
        compile(''.join(cell['source']), 'cell', 'exec')
        assert cell['outputs'] == []
        assert cell['execution_count'] is None


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    sliders = [output for output in outputs if '<iframe' in output.get('data', {}).get('text/html', '')]
    assert len(sliders) == 4
    assert sum('image/png' in output.get('data', {}) for output in outputs) == 2
    assert outputs[-1].text == 'index.html\n'
