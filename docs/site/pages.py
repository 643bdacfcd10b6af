"""The site's pages and their order, from README.md, docs/*.md, docstrings and the executed notebook.

README.md is the home page, and its list of pages is the navigation. A file of the repository that a page links to
becomes a page too, so that the same relative links work in the repository and in the site.
"""

import base64
import json
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = 'docs/quickstart.ipynb'
REPORT = 'example_report'  # the site's folder of it
EXAMPLE = 'example.md'
EXAMPLE_PAGE = '''# A report to look at

[Open the report]({report}/index.html){{ .md-button .md-button--primary }}

{source}

[The report](report.md) says how to make one.
'''
OTHER = 'repository'  # the site's folder of files that do not stand in docs/
LANGUAGES = {'.py': 'python', '.sh': 'bash', '.toml': 'toml', '.csv': 'text', '': 'text'}

# A relative target: not http:, mailto: nor an anchor of the same page.
LINK = re.compile(r'(\]\(|(?:href|src|srcset)=")(?![a-z]+:|#)([^)"#\s]+)(#[^)"\s]*)?')
FENCE = re.compile(r'^```.*?^```$', re.DOTALL | re.MULTILINE)


def read(path):
    return (ROOT / path).read_text(encoding='utf-8')


def navigation():
    """[(section, [(title, path)])] of README.md's list of pages; paths from the repository's root."""
    pages = re.search(r'^## Pages\n(.*)', read('README.md'), re.DOTALL | re.MULTILINE)[1]
    sections = re.findall(r'^\*\*(.+)\*\*\n\n((?:- .*\n(?:  .*\n)*)+)', pages, re.MULTILINE)
    return [(name, re.findall(r'^- \[([^\]]+)\]\(([^)]+)\)', lines, re.MULTILINE)) for name, lines in sections]


def outside_fences(text, change):
    """The text with every part that is no fenced block replaced by ``change(part)``."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end:fence.start()]), fence[0]]
        end = fence.end()
    return ''.join([*parts, change(text[end:])])


def target_of(path, link):
    """The file that a link of ``path`` leads to, both from the root; of a folder, its README.md."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return f'{target}/README.md' if (ROOT / target).is_dir() else target


def links(path):
    """{(link, file that it leads to)} of a page, both from the root."""
    found = set()
    outside_fences(read(path), lambda part: found.update(match[2] for match in LINK.finditer(part)) or part)
    return {(link, target_of(path, link)) for link in found}


def site_place(path):
    """Path of the page, or the file, that a file of the repository becomes in the site."""
    if path == 'README.md':
        return 'index.md'
    if path.startswith('docs/'):
        return path.removeprefix('docs/').replace('.ipynb', '.md')
    return f'{OTHER}/{path}' if path.endswith('.md') else f'{OTHER}/{path}.md'


def linked_files():
    """Files outside docs/ that pages lead to, and those that these lead to."""
    waiting = ['README.md', *(path for _, pages in navigation() for _, path in pages if path.endswith('.md'))]
    found = set(waiting)
    while waiting:
        path = waiting.pop()
        new = {target for _, target in links(path)} - found if path.endswith('.md') else set()
        found |= new
        waiting += sorted(new)
    return sorted(path for path in found if not path.startswith('docs/') and path != 'README.md')


def in_site(path, text):
    """A page of the repository with its links as the site has them."""
    here = posixpath.dirname(site_place(path))

    def change(match):
        place = site_place(target_of(path, match[2]))
        return f'{match[1]}{posixpath.relpath(place, here or ".")}{match[3] or ""}'
    return outside_fences(text, lambda part: LINK.sub(change, part))


def file_page(path):
    """Markdown of a page that shows a file; the search leaves it out, as the reference holds the same."""
    fence = f'```{LANGUAGES[Path(path).suffix]} linenums="1"\n{read(path).rstrip()}\n```'
    return f'---\nsearch:\n  exclude: true\n---\n\n# `{path}`\n\n{fence}\n'


def packages():
    """{dotted name: its modules} of the package's folders with public modules."""
    found = {}
    for path in sorted((ROOT / 'wfvae_toolkit').rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if not parts[-1].startswith('_'):
            found.setdefault('.'.join(parts[:-1]), []).append('.'.join(parts))
    return found


def reference_page(package, modules):
    """Markdown of a package's page: each module under a heading of its own."""
    return '\n\n'.join([f'# {package}', f'::: {package}\n    options: {{members: false}}',
                        *(f'## {module.removeprefix(f"{package}.")}\n\n::: {module}\n    options: {{heading_level: 3}}'
                          for module in modules)])


def notebook_page(path):
    """Markdown of an executed notebook, and {name: bytes} of its pictures.

    Raises:
        ValueError: an output that is neither a text, HTML nor a PNG.
    """
    parts, pictures = [], {}
    for number, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
        source = ''.join(cell['source'])
        parts.append(f'```python\n{source}\n```' if cell['cell_type'] == 'code' else source)
        for output in cell.get('outputs', []):
            data = {'text/plain': output['text']} if 'text' in output else output.get('data', {})
            if 'text/html' in data:
                parts.append(f'<div>{"".join(data["text/html"])}</div>')
            elif 'image/png' in data:
                name = f'quickstart_{number}_{len(pictures)}.png'
                pictures[name] = base64.b64decode(data['image/png'])
                parts.append(f'![Output of the cell above]({name})')
            elif 'text/plain' in data:
                parts.append(f'```text\n{"".join(data["text/plain"]).rstrip()}\n```')
            else:
                raise ValueError(f'{path}: cell {number} has an output of {output["output_type"]}, {sorted(data)}')
    return '\n\n'.join(parts), pictures


def site_navigation():
    """[{section: [{title: page of the site}]}], as the generator reads it."""
    nav = [{'Overview': 'index.md'}]
    for section, pages in navigation():
        entries = [{title: site_place(path)} for title, path in pages]
        if section == 'Evaluate':
            entries.insert(1, {'A report to look at': EXAMPLE})
        nav.append({section: entries})
    nav.append({'Reference': [{name.removeprefix('wfvae_toolkit.'): f'reference/{name}.md'} for name in packages()]})
    nav.append({'Repository': [{path: site_place(path)} for path in linked_files()]})
    return nav


def listed_pages():
    """Places of the navigation, in order."""
    entries = [value for section in site_navigation() for value in section.values()]
    return [page for value in entries for page in ([value] if isinstance(value, str) else
                                                   [place for one in value for place in one.values()])]


def site_pages(notebook, report_source):
    """{place in the site: Markdown or bytes} of every page.

    Args:
        notebook (Path): executed.
        report_source (str): what the example of a report shows.
    """
    paths = ['README.md', *linked_files(), *(f'docs/{path.name}' for path in (ROOT / 'docs').glob('*.md'))]
    pages = {site_place(path): in_site(path, read(path)) if path.endswith('.md') else file_page(path) for path in paths}
    pages |= {f'reference/{name}.md': reference_page(name, modules) for name, modules in packages().items()}
    pages[site_place(NOTEBOOK)], pictures = notebook_page(notebook)
    pages[EXAMPLE] = EXAMPLE_PAGE.format(report=REPORT, source=report_source)
    drawn = {f'images/{path.name}': path.read_bytes() for path in (ROOT / 'docs/images').iterdir()}
    return {**pages, **pictures, **drawn}
