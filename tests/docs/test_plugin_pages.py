"""The pages about extending the toolkit, followed word by word in a copy of the checkout."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from wfvae_toolkit.visualization.records import read_records

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'^```(bash|python|text)\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def blocks(page):
    """[(language, text)] of a Markdown page."""
    return BLOCK.findall((ROOT / 'docs' / page).read_text(encoding='utf-8'))


@pytest.fixture
def follow(launch, photos, tmp_path):
    """Follow a page: a python block is the file of its first line, a bash block is run; (folder, output)."""
    def run(page):
        for folder in ('wfvae_toolkit', 'configs', 'tools', 'projects'):
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copytree(photos, tmp_path / 'data/demo')
        # `pip install` goes into a folder of this test, offline, with the tools that are there.
        environment = {'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}', 'PIP_TARGET': tmp_path / 'site',
                       'PIP_NO_BUILD_ISOLATION': '0', 'PYTHONPATH': f'{tmp_path}:{tmp_path}/site'}
        environment = {name: str(value) for name, value in environment.items()}
        output = ''
        for language, text in blocks(page):
            if language == 'python':
                (tmp_path / re.match(r'# (\w+\.py)\n', text)[1]).write_text(text, encoding='utf-8')
            elif language == 'bash':
                output += launch('bash', '-e', '-c', text, cwd=tmp_path, env=environment).stdout
        return tmp_path, output
    return run


@pytest.mark.parametrize('page', ['add_a_metric.md', 'add_a_wavelet.md', 'ship_a_plugin.md'])
def test_every_block_is_a_file_or_a_command(page):
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    assert len(blocks(page)) == text.count('\n```') / 2
    assert all(language != 'python' or re.match(r'# \w+\.py\n', text) for language, text in blocks(page))


@pytest.mark.slow
def test_add_a_wavelet(follow):
    folder, output = follow('add_a_wavelet.md')
    assert '3 passed' in output
    assert re.search(rf'LeGall +{folder}/legall\.py:\d+ ', output)
    assert read_records(folder / 'work_dirs/legall')[-1]['iteration'] == 2
    assert (folder / 'work_dirs/legall/evaluation/summary.json').is_file()


@pytest.mark.slow
def test_add_a_metric(follow):
    folder, output = follow('add_a_metric.md')
    assert '1 passed' in output
    assert re.search(r'error ↓ +0\.\d+ \+- 0\.\d+ +0\.', output)
    assert re.search(r'shift\.distance ↓ +0\.\d+ \(whole set of \d+\) +0\.\d+ \(whole', output)
    assert (folder / 'work_dirs/metrics/best_shift.distance.pth').is_file()
    assert 'pooled' in read_records(folder / 'work_dirs/metrics')[-1]


@pytest.mark.slow
def test_ship_a_plugin(follow):
    """Copies the template, renames it, tests it, installs it into a folder and trains with it."""
    folder, output = follow('ship_a_plugin.md')
    assert '3 passed' in output
    assert re.search(r'EdgeLoss +edges 0\.1\.0 +edges\.loss', output)
    assert "mine=dict(type='EdgeLoss', weight=0.5)" in output
    assert (folder / 'site/edges/configs/demo.py').is_file()
    for run in ('edges_try', 'edges'):
        row = [row for row in read_records(folder / 'work_dirs' / run) if row['phase'] == 'train'][-1]
        assert row['iteration'] == 2
        assert row['mine'] > 0
    left = [path for path in (folder / 'projects/edges').rglob('*') if path.is_file() and path.suffix != '.pyc'
            and 'my_part' in path.read_text(encoding='utf-8') + path.name]
    assert not left
