"""The pages about extending the toolkit, followed word by word in a copy of the checkout."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from wfvae_toolkit.losses import Step
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


@pytest.mark.parametrize('page', ['add_a_dataset.md', 'add_a_metric.md', 'add_a_posterior.md', 'add_a_wavelet.md',
                                  'ship_a_plugin.md'])
def test_every_block_is_a_file_or_a_command(page):
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    opened = re.findall(r'^```(\w*)$', text, re.MULTILINE)[::2]  # one without a language shows what is printed
    assert [language for language in opened if language] == [language for language, _ in blocks(page)]
    assert all(language != 'python' or re.match(r'# \w+\.py\n', text) for language, text in blocks(page))


@pytest.mark.slow
def test_add_a_dataset(follow):
    """Trains on tar files with masks; the other classes of the page work too."""
    folder, output = follow('add_a_dataset.md')
    assert '2 passed' in output
    row = [row for row in read_records(folder / 'work_dirs/tar') if row['phase'] == 'train'][-1]
    assert row['iteration'] == 2
    assert 0 < row['masked'] < row['pixel']
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        from masked_charbonnier import MaskedCharbonnier
        from my_transforms import Darken, UpsideDown
    images, mask = torch.zeros(1, 3, 4, 4), torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)
    loss = MaskedCharbonnier()(Step(images, images + 1, None, None, extras={'mask': mask}))
    assert loss.item() == pytest.approx(48, rel=1e-5)
    picture = Image.linear_gradient('L').convert('RGB')
    _, masks = UpsideDown().with_masks(picture, {'mask': picture.convert('L')})
    assert masks['mask'].tobytes() == UpsideDown()(picture).convert('L').tobytes() != picture.convert('L').tobytes()
    assert Darken()(picture).getpixel((0, 255)) == (127,) * 3


@pytest.mark.slow
def test_add_a_wavelet(follow):
    folder, output = follow('add_a_wavelet.md')
    assert '3 passed' in output
    assert re.search(rf'LeGall +{folder}/legall\.py:\d+ ', output)
    assert read_records(folder / 'work_dirs/legall')[-1]['iteration'] == 2
    assert (folder / 'work_dirs/legall/evaluation/summary.json').is_file()


@pytest.mark.slow
def test_add_a_posterior(follow):
    folder, output = follow('add_a_posterior.md')
    assert re.search(rf'SpherePosterior +{folder}/sphere\.py:\d+ ', output)
    assert 'channels, no KL' in output
    fixed, sphere = (next(row for row in read_records(folder / 'work_dirs' / run) if row['phase'] == 'train')
                     for run in ('fixed', 'sphere'))
    assert 'least_kl' in fixed
    assert 'kl_channel/00' not in sphere


@pytest.mark.slow
def test_add_a_metric(follow):
    folder, output = follow('add_a_metric.md')
    assert '1 passed' in output
    assert re.search(r'error ↓ +0\.\d+ +0\.', output)
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
