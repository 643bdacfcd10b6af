"""docs/write_an_ablation.md and docs/ablations.md: their commands run, on a smaller network and fewer updates."""

import fnmatch
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from wfvae_toolkit.analysis.ablation_table import MARKS
from wfvae_toolkit.utils.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/write_an_ablation.md').read_text(encoding='utf-8')
TABLE_PAGE = (ROOT / 'docs/ablations.md').read_text(encoding='utf-8')
SMALL = {
    'model.autoencoder.widths': [8, 8, 8], 'model.autoencoder.flow_width': 4, 'model.discriminator.width': 8,
    'model.losses.perceptual': None, 'train_dataloader.num_workers': 0, 'train_dataloader.batch_size': 1,
    'val_evaluator.metrics.LPIPS': None, 'val_evaluator.metrics.STLPIPS': None, 'default_hooks.curves': None,
    'visualizer.vis_backends': []}


def blocks(language, page=PAGE):
    return re.findall(rf'^```{language}\n(.*?)^```', page, re.DOTALL | re.MULTILINE)


def commands(page=PAGE):
    return [shlex.split(line) for block in blocks('bash', page) for line in block.splitlines()]


@pytest.fixture
def checkout(tmp_path, photos):
    """A copy of what the page touches, with photographs of 32 px in the place of the demo's."""
    for name in ('configs', 'tools', 'tests/training', 'tests/conftest.py', 'tests/data/configs', 'pyproject.toml'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    shutil.copytree(photos, tmp_path / 'data/demo')
    return tmp_path


@pytest.mark.slow
def test_the_page_as_a_user_follows_it(launch, checkout):
    name, = re.findall(r'as a config `(configs/ablations/\w+\.py)`', PAGE)
    text, = blocks('python')
    (checkout / name).write_text(text, encoding='utf-8')
    printed = []
    for python, *command in commands():
        assert python == 'python'
        if command[0] == 'tools/ablate.py':
            command[command.index('--max-iters') + 1] = '2'
            command += ['--cfg-options', *(f'{key}={value}' for key, value in SMALL.items())]
        printed.append(launch(sys.executable, *command, cwd=checkout).stdout)
    diff, summary, tried, compared, _, tested = printed
    assert diff.startswith('~ model.autoencoder.mid_blocks ')
    assert 'GFLOP' in summary
    assert '| `demo_mid_residual` |' in tried
    assert '| `wfvae2_demo` |' in compared
    assert '| `demo_mid_residual` |' in compared
    assert {'ablation.md', 'ablation.csv', 'ablation.png', 'curves.png'} <= {
        path.name for path in (checkout / 'work_dirs/attention').iterdir()}
    assert '2 passed' in tested


def test_the_pages_table_can_be_filled_and_its_configs_are_there():
    assert [TABLE_PAGE.count(mark) for mark in MARKS] == [1, 1]
    ablate = next(command for command in commands(TABLE_PAGE) if '--fill' in command)
    configs = ablate[2:ablate.index('--seeds')]
    short = re.fullmatch(r'(.*)\{(.*)\}(.*)', configs[1])
    paths = [configs[0], *(short[1] + name + short[3] for name in short[2].split(','))]
    assert len(paths) == 9
    for path in paths:
        load_config(ROOT / path)


@pytest.mark.parametrize('name', [path.stem for path in sorted((ROOT / 'configs/ablations').glob('*.py'))])
def test_every_shipped_ablation_is_in_the_page(name):
    """Its pattern has a row, which names its choice; those of the demo need none."""
    rows = {pattern: line for line in TABLE_PAGE.splitlines() if line.startswith('| `')
            for pattern in re.findall('`([^`]*)`', line.split('|')[1])}
    pattern = next(pattern for pattern in rows if fnmatch.fnmatch(name, pattern))
    choice = name.removeprefix(pattern.removesuffix('*'))
    assert pattern in ('demo_*', name) or re.search(rf'[`, ](\w*_)?{choice}[`, ]', rows[pattern])
