"""Build the site into build/docs/site: ``python docs/site/build.py``; `make docs` installs what this needs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from pages import NOTEBOOK, REPORT, ROOT, listed_pages, site_navigation, site_pages

HERE = Path(__file__).resolve().parent
BUILD = ROOT / 'build/docs'
MODEL = 'wfvae2-tiny'
ITERATIONS = 100  # of the training for the report


def main():
    BUILD.mkdir(parents=True, exist_ok=True)
    source = make_report()
    notebook = execute_notebook()
    print('docs: writing pages', flush=True)
    folder = BUILD / 'pages'
    shutil.rmtree(folder, ignore_errors=True)
    for place, content in site_pages(notebook, source).items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content if isinstance(content, bytes) else content.encode())
    shutil.copytree(BUILD / 'report', folder / REPORT)
    shutil.copytree(HERE, folder / 'site', ignore=shutil.ignore_patterns('*.py', '*.yml', '__pycache__'))
    check_navigation(folder)
    # JSON is YAML.
    config = (HERE / 'mkdocs.yml').read_text(encoding='utf-8') + f'\nnav: {json.dumps(site_navigation())}\n'
    (BUILD / 'mkdocs.yml').write_text(config, encoding='utf-8')
    run('-m', 'zensical', 'build', '--strict', '--clean', '-f', BUILD / 'mkdocs.yml')
    print(f'docs: {ROOT / "build/docs/site/index.html"}')


def make_report():
    """Write the example of a report, if it is not there; returns what it shows, in Markdown."""
    demo, shipped = BUILD / 'runs/demo', BUILD / 'runs/wfvae2-tiny'
    if not (BUILD / 'report/index.html').is_file():
        print(f'docs: training {ITERATIONS} iterations for the report', flush=True)
        run('tools/train.py', 'configs/wfvae2_demo.py', '--work-dir', demo, '--resume', '--cfg-options',
            f'train_cfg.max_iters={ITERATIONS}', 'train_cfg.val_interval=50')
        run('tools/measure_latents.py', demo, 'data/demo/train', '--crop', 256)
        run('tools/test.py', 'configs/wfvae2_demo.py', demo, '--work-dir', demo / 'evaluation', '--no-report',
            '--cfg-options', 'val_dataloader.dataset.data_root=data/demo')
        pictures = BUILD / 'reconstructions'
        run('tools/reconstruct.py', MODEL, 'data/demo', pictures, '--crop', 256, '--existing', 'replace')
        run('tools/compare_folders.py', 'data/demo', pictures, '--crop', 256, '--work-dir', shipped)
        run('tools/report.py', demo, shipped, '--out', BUILD / 'report')
    return (f'It shows two models on the sixteen photographs of `make demo-data`: the first {ITERATIONS} iterations of '
            '`configs/wfvae2_demo.py`, trained when this site was built, and the shipped `wfvae2-tiny`. Most of the '
            'photographs were trained on by both: they say which picture is hard, not how good a model is.')


def execute_notebook():
    """Run the notebook in a process of its own; returns the executed copy."""
    import nbformat
    from nbclient import NotebookClient

    target = BUILD / Path(NOTEBOOK).name
    print(f'docs: executing {NOTEBOOK}', flush=True)
    notebook = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(ROOT)}}).execute()
    nbformat.write(notebook, target)
    return target


def check_navigation(folder):
    """The generator lets a page outside of the navigation pass; this does not."""
    listed = set(listed_pages())
    written = {path.relative_to(folder).as_posix() for path in folder.rglob('*.md')}
    if listed != written:
        sys.exit(f'docs: only in the navigation or only written: {sorted(listed ^ written)}')


def run(*command):
    """A step in its own process; if it fails, this program fails."""
    status = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


if __name__ == '__main__':
    main()
