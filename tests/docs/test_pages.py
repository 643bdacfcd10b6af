"""The commands and programs of docs pages run, one after the other, in a folder with a small model and photographs."""

import inspect
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from wfvae_toolkit.registry import DATASETS, EVALUATORS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(trained, photos, tmp_path, monkeypatch):
    """The working folder, laid out as the pages have it."""
    shutil.copytree(trained, tmp_path / 'work_dirs/demo')
    shutil.copytree(photos, tmp_path / 'data/demo')
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page, pattern='bash|python'):
    """(language, text) of the page's fenced blocks."""
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    return re.findall(rf'^```({pattern})\n(.*?)^```', text, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(('page', 'made'), [
    ('reconstruct.md', ['reconstructions/01.png', 'scores/summary.json', 'jpegs/01.jpg', 'pairs/05.original.png',
                        'many/09.png']),
    ('latents.md', ['latents/index.json', 'latents_2/shard_00002.safetensors'])])
def test_a_page_runs_from_top_to_bottom(launch, tool, place, page, made):
    commands = 0
    for language, text in blocks(page):
        if language == 'python':
            (place / 'program.py').write_text(text)
            launch(sys.executable, place / 'program.py', cwd=place)
            continue
        for line in text.strip().splitlines():
            words = shlex.split(line)
            if words[0] == 'python':
                tool(Path(words[1]).stem)(*words[2:])
            else:
                launch(*words, cwd=place)
            commands += 1
    assert commands >= 4
    for path in made:
        assert (place / path).is_file(), path


@pytest.mark.parametrize('page', ['reconstruct.md', 'latents.md'])
def test_every_option_on_a_page_exists(page):
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    tools = sorted(set(re.findall(r'tools/(\w+)\.py', text)))
    known = ' '.join((ROOT / 'tools' / f'{name}.py').read_text(encoding='utf-8') for name in tools)
    known += (ROOT / 'wfvae_toolkit/utils/options.py').read_text(encoding='utf-8')
    assert tools
    for option in set(re.findall(r'--[a-z][a-z-]+', text)):
        assert f"'{option}'" in known, option


def test_the_settings_on_the_data_page_exist():
    """Its blocks are settings of a dataset with `...` for a pipeline, so they are looked up and not run."""
    pages_settings = [eval(f'dict({text})')['dataset'] for _, text in blocks('data.md', 'python')]
    sources = [source for cfg in pages_settings for source in cfg.get('sources', {}).values()]
    datasets = [*pages_settings, *(source['dataset'] for source in sources)]
    assert {cfg['type'] for cfg in datasets} == {
        'AspectBuckets', 'ImageFolder', 'ImageManifest', 'ImageShards', 'ImageTable', 'MixedDataset', 'SyntheticImages'}
    for cfg in datasets:
        settings = inspect.signature(DATASETS.get(cfg['type'])).parameters
        assert cfg.keys() - {'type'} <= settings.keys(), cfg['type']


@pytest.mark.parametrize('page', ['evaluation.md', 'latent_metrics.md'])
def test_the_rows_on_pages_about_metrics_can_be_built(page):
    """What needs weights is an optional row there, and is listed."""
    names = {}
    exec(blocks(page, 'python')[0][1], names)
    evaluator = EVALUATORS.build(dict(type='ReconstructionEvaluator', **names['val_evaluator']))
    assert evaluator.metrics.keys() | evaluator.not_computed.keys() == names['val_evaluator']['metrics'].keys()
