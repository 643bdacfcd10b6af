"""tools/measure_latents.py and tools/cache_latents.py."""

import json
import shutil

import pytest
import torch

from wfvae_toolkit.checkpoints import load_training_checkpoint, read_model
from wfvae_toolkit.datasets import open_images
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents import CachedLatents

QUICK = ('--workers', 0)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it, to write to."""
    shutil.copytree(trained, tmp_path / 'run')
    return tmp_path / 'run'


def images(folder):
    """(N, 3, 32, 32) in [-1, 1]."""
    dataset = open_images(folder)
    return torch.stack([dataset[index].image for index in range(len(dataset))]) / 127.5 - 1


def record(run):
    return json.loads(load_training_checkpoint(run / 'iter_2.pth')['meta']['latent_statistics'])


def test_after_measuring_latents_have_mean_0_and_std_1(tool, run, photos, capsys):
    tool('measure_latents')(run, photos / 'train', *QUICK)
    assert f'written into {run}/iter_2.pth' in capsys.readouterr().out
    model = Reconstructor.from_pretrained(run, device='cpu')
    latents = model.encode(images(photos / 'train')).double()
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4).double(), rtol=0, atol=1e-5)
    posterior = model.autoencoder.encode(images(photos / 'train')).latent_dist
    std = torch.tensor(model.statistics.std)[:, None, None]
    # Of samples: the variance of means and the mean variance.
    total = latents.var((0, 2, 3), correction=0) + (posterior.var / std**2).double().mean((0, 2, 3))
    torch.testing.assert_close(total, torch.ones(4).double(), rtol=1e-5, atol=0)
    generator = torch.Generator().manual_seed(0)
    samples = torch.cat([model.encode(images(photos / 'train'), sample=True, generator=generator) for _ in range(20)])
    torch.testing.assert_close(samples.std((0, 2, 3)), torch.ones(4), rtol=0.02, atol=0)
    assert model.reconstruct(images(photos / 'val')).shape == (3, 3, 32, 32)


def test_the_record_says_what_was_measured(tool, run, photos, capsys):
    tool('measure_latents')(run, photos / 'train', '--crop', 16, '--max-images', 5, '--weights', 'raw', *QUICK)
    found = record(run)
    assert (found['images'], found['positions'], found['weights']) == (5, 5 * 16, 'raw')
    assert found['pictures'] == 'CenterCrop(size=16), cut to multiples of 4 px'
    assert found['data'] == str(photos / 'train')
    printed = capsys.readouterr().out
    assert f'{found["std"][3]:.5f}' in printed
    assert 'channels active' in printed


def test_a_dry_run_and_one_with_bad_files_write_nothing(tool, run, photos, tmp_path, capsys):
    before = (run / 'iter_2.pth').read_bytes()
    tool('measure_latents')(run, photos / 'val', '--dry-run', *QUICK)
    shutil.copytree(photos / 'val', tmp_path / 'data')
    (tmp_path / 'data/05.png').write_bytes(b'')
    with pytest.raises(SystemExit, match='1 files could not be read, nothing is written; --skip-bad accepts that'):
        tool('measure_latents')(run, tmp_path / 'data', *QUICK)
    assert 'not measured: 05.png: zero bytes' in capsys.readouterr().err
    assert (run / 'iter_2.pth').read_bytes() == before
    tool('measure_latents')(run, tmp_path / 'data', '--skip-bad', *QUICK)
    assert record(run)['images'] == 2


def test_cached_latents_are_those_of_encode(tool, run, photos, tmp_path, capsys):
    tool('measure_latents')(run, photos / 'train', *QUICK)
    tool('cache_latents')(run, photos / 'train', tmp_path / 'latents', '--crop', 32, '--flips', *QUICK)
    assert 'latents: 9 latents of 4x8x8 in 1 shards' in capsys.readouterr().out
    cached = CachedLatents(tmp_path / 'latents', sample_posterior=False, random_flip=False)
    model = Reconstructor.from_pretrained(run, device='cpu')
    expected = model.encode(images(photos / 'train'))
    torch.testing.assert_close(torch.stack([item['latent'] for item in cached]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.decode(cached[3]['latent'][None]), model.decode(expected[3:4]), rtol=0, atol=1e-4)


def test_refusals_are_one_line(tool, run, photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool('cache_latents')(run, photos / 'train', tmp_path / 'latents')
    assert 'give --resolution, --crop or both' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='^error: 18 px: the model needs a multiple of 4'):
        tool('cache_latents')(run, photos / 'train', tmp_path / 'latents', '--crop', 18)
    tool('cache_latents')(run, photos / 'train', tmp_path / 'latents', '--crop', 16, *QUICK)
    with pytest.raises(SystemExit, match="^error: .*latents holds a cache that was made.* what is 'moments' there"):
        tool('cache_latents')(run, photos / 'train', tmp_path / 'latents', '--crop', 16, '--what', 'mean')
    manifest = tmp_path / 'list.jsonl'
    manifest.write_text(json.dumps({'path': str(photos / 'val/01.png')}) + '\n')
    with pytest.raises(SystemExit, match='^error: .*is not in the folder of the manifest'):
        tool('measure_latents')(run, manifest)
    tool('measure_latents')(run, manifest, '--allow-outside', *QUICK)


@pytest.mark.slow
def test_two_processes_measure_and_cache_what_one_does(launch, tool, run, photos, tmp_path):
    two = tmp_path / 'run_2'
    shutil.copytree(run, two)
    options = ('--launcher', 'pytorch', '--device', 'cpu', '--batch-size', 2)
    tool('measure_latents')(run, photos / 'train', '--batch-size', 2, *QUICK)
    launch('tools/launch.sh', 2, 'tools/measure_latents.py', two, photos / 'train', *options)
    one, other = read_model(run).statistics, read_model(two).statistics
    assert other.mean == pytest.approx(one.mean, rel=1e-9)
    assert other.std == pytest.approx(one.std, rel=1e-9)
    cache = (photos / 'train', '--crop', 32, '--shard-size', 2, '--what', 'sample', '--flips')
    tool('cache_latents')(run, cache[0], tmp_path / 'one', *cache[1:], '--batch-size', 2, *QUICK)
    launch('tools/launch.sh', 2, 'tools/cache_latents.py', run, cache[0], tmp_path / 'two', *cache[1:], *options)
    written = {path.name: path.read_bytes() for path in (tmp_path / 'one').glob('shard_*')}
    assert len(written) == 5
    assert {path.name: path.read_bytes() for path in (tmp_path / 'two').glob('shard_*')} == written


@pytest.mark.parametrize('name', ['measure_latents', 'cache_latents'])
@pytest.mark.parametrize('option', [('--workers', '-1'), ('--batch-size', '0'), ('--batch-size', 'many')])
def test_numbers_that_cannot_work_are_named_before_anything_is_read(tool, capsys, name, option):
    places = ['nowhere', 'nowhere', *(['nowhere', '--crop', '16'] if name == 'cache_latents' else [])]
    with pytest.raises(SystemExit, match='2'):
        tool(name)(*places, *option)
    assert f'argument {option[0]}: ' in capsys.readouterr().err
