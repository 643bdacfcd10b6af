"""The public surface: every name that users, plug-ins and saved files rely on, as the code has it now.

``python -m tests.public_surface`` writes it to tests/data/public_surface.json, which `test_public_surface.py` compares.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import tempfile
import textwrap
from pathlib import Path

import torch

import wfvae_toolkit
from tests.helpers import load_module
from wfvae_toolkit.registry import BY_NAME, is_own, registered_names
from wfvae_toolkit.schema import PARTS, SECTIONS
from wfvae_toolkit.utils.kinds import parameters_of
from wfvae_toolkit.utils.nodes import Fields, Items, Part, Rows

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / 'tests/data/public_surface.json'
TINY = ROOT / 'tests/data/configs/tiny.py'


def collect():
    """Kind -> sorted names of that kind."""
    return {'parts': parts(), 'config keys': config_keys(), 'checkpoint keys': checkpoint_keys(),
            'tool options': tool_options(), 'exported names': exported_names(), 'import paths': import_paths(),
            'configs': configs()}


def parts():
    """``REGISTRY.Part(setting)`` of every part of ours, and ``REGISTRY.Part``."""
    found = set()
    for variable, registry in vars(importlib.import_module('wfvae_toolkit.registry')).items():
        if registry not in BY_NAME.values():
            continue
        found.add(variable)
        for name in registered_names(registry):
            part = registry.module_dict[name]
            if is_own(part):
                found.add(f'{variable}.{name}')
                found |= {f'{variable}.{name}({setting})' for setting in parameters_of(part)
                          if setting not in registry.context}
    return sorted(found)


def config_keys():
    """Dotted paths of the keys that `schema.SECTIONS` and `schema.PARTS` fix; ``*`` is the name of a row."""
    found = set()

    def walk(place, node):
        found.add(place)
        if isinstance(node, Fields):
            for name, member in node.members.items():
                walk(f'{place}.{name}', member)
        elif isinstance(node, Part):
            for name, member in node.extra.items():
                walk(f'{place}.{name}', member)
        elif isinstance(node, (Rows, Items)):
            walk(f'{place}.*', node.node)
    for name, node in SECTIONS.items():
        walk(name, node)
    for name, node in PARTS.items():
        walk(f'(part).{name}', node)
    return sorted(found)


def checkpoint_keys():
    """Keys of a training checkpoint with its weights' names, and of the forms that are exported from it."""
    from wfvae_toolkit.checkpoints import export_model, read_model

    found = set()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        checkpoint = _train(folder / 'run')
        content = torch.load(checkpoint, weights_only=True)
        for name, value in content.items():
            found.add(f'training: {name}')
            if isinstance(value, dict) and name != 'ema_state_dict':  # the same names as in state_dict
                found |= {f'training: {name}.{key}' for key in value}
        found |= {f'training: optimizers.{turn}.{key}' for turn, state in content['optimizers'].items()
                  for key in state}
        for form in ('native', 'diffusers'):
            written = folder / form
            export_model(read_model(checkpoint), written if form == 'diffusers' else f'{written}.pth', form)
            if form == 'native':
                for name, value in torch.load(f'{written}.pth', weights_only=True).items():
                    found.add(f'inference: {name}')
                    if name == 'meta':
                        found |= {f'inference: meta.{key}' for key in value}
                continue
            found |= {f'diffusers: {path.name}' for path in written.iterdir()}
            found |= {f'diffusers: config.json: {key}' for key in json.loads((written / 'config.json').read_text())}
    return sorted(found)


def _train(folder):
    """Path of a checkpoint after two updates on made-up pictures."""
    from wfvae_toolkit.training import TrainingRunner
    from wfvae_toolkit.utils.config import load_config

    made_up = dict(type='SyntheticImages', size=16, length=4)
    cfg = load_config(TINY, {'train_dataloader.dataset': made_up, 'val_dataloader.dataset': made_up,
                             'train_cfg.max_iters': 2, 'default_hooks.curves': None, 'default_hooks.pictures': None})
    cfg.work_dir, cfg.launcher = str(folder), 'none'
    TrainingRunner.from_cfg(cfg).train()
    return folder / 'iter_2.pth'


class _Parser(Exception):
    """Carries the parser of a tool."""


def tool_options():
    """``tools/x.py --option`` and ``tools/x.py POSITION`` of every tool; shell tools by their path alone."""
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'tools').glob('*.sh')}
    for path in sorted((ROOT / 'tools').rglob('*.py')):
        name = path.relative_to(ROOT).as_posix()
        found.add(name)
        for action in _options_of(path):
            found |= {f'{name} {option}' for option in action.option_strings if option.startswith('--')}
            if not action.option_strings:
                found.add(f'{name} {action.dest}')
    return sorted(found)


def _options_of(path):
    """The actions of a tool's parser; none where it takes no arguments."""
    module = load_module(path)
    enter = getattr(module, 'parse_arguments', module.main)
    if not inspect.signature(enter).parameters:
        return []

    def caught(parser, *args, **kwargs):
        raise _Parser(parser)
    original, argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_args, caught
    try:
        enter([])
    except _Parser as found:
        return found.args[0]._actions
    finally:
        argparse.ArgumentParser.parse_args = original
    raise AssertionError(f'{path} parses no arguments')


def exported_names():
    """``module: name`` of every ``__all__``, and the public fields and methods of the classes that plug-ins derive."""
    found = {'wfvae_toolkit: AutoencoderWFVAE2', 'wfvae_toolkit: __version__'}
    for module in pkgutil.walk_packages(wfvae_toolkit.__path__, 'wfvae_toolkit.'):
        if module.ispkg:
            package = importlib.import_module(module.name)
            found |= {f'{module.name}: {name}' for name in getattr(package, '__all__', ())}
    for place, name in (('losses', 'Loss'), ('losses', 'Step'), ('evaluation', 'Metric'),
                        ('evaluation', 'EvaluationBatch'), ('datasets', 'ImageDataset'), ('datasets', 'Sample'),
                        ('datasets', 'Batch'), ('models.wavelets', 'Wavelet'), ('models.posterior', 'DiagonalGaussian'),
                        ('inference', 'Reconstructor'), ('training', 'AutoencoderTraining')):
        cls = getattr(importlib.import_module(f'wfvae_toolkit.{place}'), name)
        members = {key for base in cls.__mro__ if is_own(base) for key in vars(base) if not key.startswith('_')}
        members |= {item.name for item in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
        found |= {f'wfvae_toolkit.{place}: {name}.{key}' for key in members}
    return sorted(found)


def import_paths():
    """``module: name`` of everything that pages, projects and saved pipelines import from the package."""
    found = {'wfvae_toolkit.models.diffusers_model: AutoencoderWFVAE2'}  # model_index.json names the module
    pages = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'), *(ROOT / 'projects').rglob('*.md')]
    blocks = [textwrap.dedent(block) for page in pages
              for block in re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL)]
    sources = [path.read_text(encoding='utf-8') for path in sorted((ROOT / 'projects').rglob('*.py'))]
    for source in [*blocks, *sources]:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or '').partition('.')[0] == 'wfvae_toolkit':
                found |= {f'{node.module}: {alias.name}' for alias in node.names}
    return sorted(found)


def configs():
    """Paths of the configs that are shipped, which other configs take as their base."""
    return sorted(path.relative_to(ROOT / 'configs').as_posix() for path in (ROOT / 'configs').rglob('*.py'))


if __name__ == '__main__':
    FILE.write_text(json.dumps(collect(), indent=1) + '\n', encoding='utf-8')
    print(f'written: {FILE}')
