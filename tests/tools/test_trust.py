"""No file that a user loads runs code: every tool that reads one, with files that try."""

import json
import os
import pickle
import re
import subprocess
import zlib

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.helpers import TouchesAFile
from wfvae_toolkit.checkpoints import load_training_checkpoint
from wfvae_toolkit.datasets import scan_folder
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents import CachedLatents, LatentCacheError
from wfvae_toolkit.training.loops import UpdateLoop
from wfvae_toolkit.utils.errors import UserError


@pytest.fixture(scope='module')
def good(train, tmp_path_factory):
    """A checkpoint of a run of tiny.py."""
    folder = train('tiny', tmp_path_factory.mktemp('good'), **{
        'train_cfg.max_iters': 2, 'default_hooks.pictures': None, 'default_hooks.curves': None})
    return folder / 'iter_2.pth'


def bare_pickle(checkpoint, canary, path):
    path.write_bytes(pickle.dumps(TouchesAFile(canary)))


def pickle_beside_weights(checkpoint, canary, path):
    torch.save({**checkpoint, 'best': TouchesAFile(canary)}, path)


def pickle_in_meta(checkpoint, canary, path):
    checkpoint['meta']['note'] = TouchesAFile(canary)
    torch.save(checkpoint, path)


def config_text(checkpoint, canary, path):
    """MMEngine's own resume executes it."""
    checkpoint['meta']['config'] = checkpoint['meta']['cfg'] = f'import os\nos.mknod({str(canary)!r})\n'
    torch.save(checkpoint, path)


def type_that_is_a_program(checkpoint, canary, path):
    checkpoint['meta']['autoencoder'] = json.dumps(dict(type='subprocess.Popen', args=['touch', str(canary)]))
    torch.save(checkpoint, path)


def program_deep_inside(checkpoint, canary, path):
    config = json.loads(checkpoint['meta']['autoencoder'])
    config['mid_blocks'] = [dict(type='os.mknod', path=str(canary))]
    checkpoint['meta']['autoencoder'] = json.dumps(config)
    torch.save(checkpoint, path)


PICKLES = (bare_pickle, pickle_beside_weights, pickle_in_meta)
PROGRAMS = (type_that_is_a_program, program_deep_inside)


@pytest.fixture
def doors(train, tool, photos, tmp_path, monkeypatch):
    """Name -> function of a checkpoint's path, each a way in which a user hands one over."""
    monkeypatch.setattr(UpdateLoop, 'run', lambda self: None)
    tiny = os.path.join(os.path.dirname(__file__), '../data/configs/tiny.py')
    roots = [f'val_dataloader.dataset.data_root={photos / "val"}', 'val_dataloader.max_images=1']
    return {
        'train.py --resume PATH': lambda path: train('tiny', tmp_path / 'run', '--resume', path),
        'train.py --resume': lambda path: train('tiny', path.parent, '--resume'),
        'load_from': lambda path: train('tiny', tmp_path / 'run', load_from=path),
        'load_from a folder': lambda path: train('tiny', tmp_path / 'run', load_from=path.parent),
        'a teacher': lambda path: train('tiny', tmp_path / 'run', **{
            'model.losses.teacher': dict(type='DistillationLoss', teacher=str(path))}),
        'test.py': lambda path: tool('test')(tiny, path, '--cfg-options', *roots),
        'convert.py': lambda path: tool('convert')(path, tmp_path / 'out.pth', '--to', 'native'),
        'merge.py': lambda path: tool('merge')('--encoder', path, '--decoder', path, tmp_path / 'out.pth'),
        'reconstruct.py': lambda path: tool('reconstruct')(path, photos / 'val', tmp_path / 'out'),
        'measure_latents.py': lambda path: tool('measure_latents')(path, photos / 'val', '--resolution', 16),
        'cache_latents.py': lambda path: tool('cache_latents')(path, photos / 'val', tmp_path / 'out', '--resolution',
                                                               16),
        'Reconstructor': lambda path: Reconstructor.from_pretrained(path)}


# These take any MODEL.
MODEL_DOORS = ('load_from', 'convert.py', 'merge.py', 'reconstruct.py', 'measure_latents.py', 'cache_latents.py',
               'Reconstructor')
# These look at the network that the file describes.
BUILDERS = ('load_from a folder', 'a teacher', 'test.py', *MODEL_DOORS)
DOORS = ('train.py --resume PATH', 'train.py --resume', *BUILDERS)


@pytest.mark.parametrize('door', DOORS)
@pytest.mark.parametrize('attack', [*PICKLES, config_text, *PROGRAMS], ids=lambda attack: attack.__name__)
def test_nothing_runs(good, doors, tmp_path, door, attack):
    canary, path = tmp_path / 'canary', tmp_path / 'files' / 'iter_1.pth'
    path.parent.mkdir()
    attack(load_training_checkpoint(good), canary, path)
    if attack in PICKLES or attack in PROGRAMS and door in BUILDERS:
        with pytest.raises((SystemExit, UserError)) as refused:
            doors[door](path)
        said = str(refused.value)
        assert str(path if door != 'train.py --resume' else path.parent) in said
        assert 'none of its 1 checkpoints' in said or 'could run code' in said or 'which no registry holds' in said
    elif attack in PROGRAMS:  # --resume compares what the file says with the config, as data
        with pytest.raises((SystemExit, UserError), match='it changes what the network computes'):
            doors[door](path)
    else:  # read, and what it says is data that nobody asks for
        doors[door](path)
    assert not canary.exists()


def test_the_attacks_work_where_pickles_and_types_are_trusted(good, tmp_path):
    for attack in (pickle_beside_weights, pickle_in_meta):
        attack(load_training_checkpoint(good), tmp_path / attack.__name__, tmp_path / 'a.pth')
        torch.load(tmp_path / 'a.pth', weights_only=False)
        assert (tmp_path / attack.__name__).exists()
    type_that_is_a_program(load_training_checkpoint(good), tmp_path / 'canary', tmp_path / 'a.pth')
    config = json.loads(torch.load(tmp_path / 'a.pth', weights_only=True)['meta']['autoencoder'])
    assert config.pop('type') == 'subprocess.Popen'
    assert subprocess.Popen(**config).wait() == 0
    assert (tmp_path / 'canary').exists()


@pytest.mark.parametrize('door', MODEL_DOORS)
@pytest.mark.parametrize('settings', [
    dict(auto_map=dict(AutoModel='modelling.Evil'), _class_name='Evil'),
    dict(_class_name=['modelling', 'Evil']),
    dict(_class_name='WFVAE2Image', autoencoder=dict(type='modelling.Evil'))], ids=['auto_map', 'module', 'type'])
def test_the_modelling_file_of_an_exported_folder_is_not_run(doors, tmp_path, monkeypatch, door, settings):
    folder = tmp_path / 'exported'
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(settings))
    for name in ('modelling.py', 'Evil.py', '__init__.py'):
        (folder / name).write_text(f'import os\nos.mknod({str(tmp_path / "canary")!r})\n')
    save_file({'decoder.conv_in.weight': torch.zeros(2)}, folder / 'diffusion_pytorch_model.safetensors')
    monkeypatch.syspath_prepend(folder)
    with pytest.raises((SystemExit, UserError), match=re.escape(str(folder))):
        doors[door](folder)
    assert not (tmp_path / 'canary').exists()


@pytest.mark.parametrize('file', ['../secret.safetensors', '/etc/passwd', 'sub/shard_00000.safetensors', 'a.py', 3])
def test_an_index_of_latents_names_nothing_outside(good, doors, tmp_path, file):
    doors['cache_latents.py'](good)
    path = tmp_path / 'out' / 'index.json'
    index = json.loads(path.read_text())
    assert CachedLatents(path.parent)
    index['shards'][0]['file'] = file
    path.write_text(json.dumps(index))
    with pytest.raises(LatentCacheError, match='no plain name') as refused:
        CachedLatents(path.parent)
    assert str(path) in str(refused.value)


# data

@pytest.fixture
def attacked_data(tmp_path, photos):
    """A folder with a good picture and a pickle that is named like one; where the pickle would leave its trace."""
    folder = tmp_path / 'data'
    folder.mkdir()
    for number, source in enumerate(sorted((photos / 'train').iterdir())[:2]):
        (folder / f'{number}.png').write_bytes(source.read_bytes())
    (folder / 'a.png').write_bytes(pickle.dumps(TouchesAFile(tmp_path / 'canary')))
    return folder


def test_data_tools_run_nothing(attacked_data, tool, tmp_path, capsys):
    tool('make_manifest')(attacked_data, attacked_data / 'list.jsonl')
    assert 'left out: a.png: not an image' in capsys.readouterr().err
    tool('analysis_tools/browse_dataset')(
        os.path.join(os.path.dirname(__file__), '../data/configs/tiny.py'), '--count', 2, '--output',
        tmp_path / 'sheet.png', '--cfg-options', f'train_dataloader.dataset.data_root={attacked_data}')
    assert 'bad: a.png (not an image' in capsys.readouterr().out
    assert not (tmp_path / 'canary').exists()


@pytest.mark.parametrize('line', [pickle.dumps(TouchesAFile('canary')), b'__import__("os").mknod("canary")', b'[]',
                                  b'{"iteration": "__import__(\'os\')", "phase": 3}', b'\xff\xfe'])
def test_a_log_is_data(tool, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'log.jsonl').write_bytes(line + b'\n')
    with pytest.raises(SystemExit, match='error: '):
        tool('analysis_tools/plot_log')(tmp_path)
    assert not (tmp_path / 'canary').exists()


def tampered(cache, change):
    """A scan cache with a changed listing and a checksum that fits."""
    header, _, body = cache.read_bytes().partition(b'\n')
    rows = [change(json.loads(line)) for line in body.splitlines()]
    body = ''.join(json.dumps(row) + '\n' for row in rows).encode()
    cache.write_bytes(json.dumps({**json.loads(header), 'crc32': zlib.crc32(body)}).encode() + b'\n' + body)


@pytest.mark.parametrize('change', [
    lambda row: [*row[:2], '../secret.png', *row[3:]], lambda row: [*row[:3], '..', *row[4:]],
    lambda row: [*row[:2], '/etc/passwd.png', *row[3:]], lambda row: [*row[:2], 'a\0.png', *row[3:]],
    lambda row: [*row[:2], 3, *row[3:]], lambda row: row[:3]],
    ids=['picture above', 'folder above', 'absolute', 'NUL', 'number', 'short'])
def test_a_tampered_scan_cache_is_not_believed(tmp_path, monkeypatch, change):
    monkeypatch.setattr('wfvae_toolkit.datasets.scan.SETTLED_NS', -10**9)  # cache what changed just now
    folder, cache = tmp_path / 'pictures', tmp_path / 'scan.jsonl'
    folder.mkdir()
    for path in (folder / 'a.png', tmp_path / 'secret.png'):
        Image.new('RGB', (2, 2)).save(path)
    assert scan_folder(folder, cache=cache) == ['a.png']
    tampered(cache, change)
    with pytest.warns(UserWarning, match='no usable scan cache'):
        assert scan_folder(folder, cache=cache) == ['a.png']
