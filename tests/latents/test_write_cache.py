import json
import os
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from wfvae_toolkit.checkpoints import TrainedModel
from wfvae_toolkit.datasets import fixed_pipeline, open_images
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents import CachedLatents, CacheSettings, LatentCache, LatentCacheError, LatentIndex
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import NotFinite, SettingError

CONFIG = dict(type='WFVAE2Image', latent_channels=3, widths=[8, 12], flow_width=4)
STATISTICS = LatentStatistics((0.1, -0.25, 0.5), (1.5, 0.1, 7.0))


@pytest.fixture
def model(make_model, tmp_path):
    state = make_model(autoencoder=CONFIG).autoencoder.state_dict()
    return TrainedModel(CONFIG, state, STATISTICS, tmp_path / 'model.pth', 'native', 'ema')


@pytest.fixture
def make(model, photos, tmp_path):
    """Cache the nine photographs of 32 px, three a shard; returns the folder."""
    def call(folder='cache', model=model, data=photos / 'train', max_images=None, edge=16, batch_size=2,
             skip_bad=False, fill=True, **settings):
        pipeline = fixed_pipeline(edge)
        cache = LatentCache(
            model, Reconstructor(model.build(), device='cpu'), open_images(data, pipeline), pipeline, edge,
            tmp_path / folder, CacheSettings(**{'shard_size': 3, **settings}), max_images, str(data))
        if fill:
            cache.fill(batch_size, skip_bad)
        return tmp_path / folder
    return call


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob('shard_*')}


def posteriors(model, data, flip=False):
    """{name: DiagonalGaussian} of each picture on its own."""
    autoencoder, found = model.build(), {}
    with torch.no_grad():
        for sample in map(open_images(data, fixed_pipeline(16)).__getitem__, range(9)):
            image = sample.image[None].float() / 127.5 - 1
            found[sample.path] = autoencoder.encode(image.flip(-1) if flip else image).latent_dist
    return found


def test_shards_hold_named_moments_of_each_picture_and_its_mirror_image(make, model, photos):
    folder = make(flips=True)
    index = LatentIndex.read(folder)
    assert index.complete
    assert [len(shard['names']) for shard in index.shards] == [3, 3, 3]
    assert index.statistics == {'mean': list(STATISTICS.mean), 'std': list(STATISTICS.std)}
    for flip in (0, 1):
        expected = posteriors(model, photos / 'train', flip)
        for shard in index.shards:
            tensors = load_file(folder / shard['file'])
            assert set(tensors) == set(shard['names'])
            for name, tensor in tensors.items():
                assert tensor.shape == (2, 6, 4, 4)
                both = torch.cat([expected[name].mean[0], expected[name].logvar[0]])
                torch.testing.assert_close(tensor[flip], both, rtol=1e-5, atol=1e-6)


def test_mean_and_sample_are_what_they_say(make, model, photos):
    expected = posteriors(model, photos / 'train')
    means = CachedLatents(make('mean', what='mean'), normalize=False)
    sampled, again, other = (CachedLatents(make(f'sample_{number}', what='sample', seed=seed), normalize=False)
                             for number, seed in enumerate((1, 1, 2)))
    noise = []
    for item in means:
        posterior = expected[item['name']]
        torch.testing.assert_close(item['latent'], posterior.mean[0], rtol=1e-5, atol=1e-6)
        noise.append((sampled[item['number']]['latent'] - posterior.mean[0]) / posterior.std[0])
        assert sampled[item['number']]['latent'].equal(again[item['number']]['latent'])
        assert not sampled[item['number']]['latent'].equal(other[item['number']]['latent'])
    noise = torch.stack(noise)
    assert abs(float(noise.mean())) < 0.2
    assert float(noise.std()) == pytest.approx(1, abs=0.2)
    assert len(set(noise.flatten(1)[:, 0].tolist())) == 9


@pytest.mark.parametrize('what', ['moments', 'mean'])
def test_normalised_on_disk_or_when_read_is_the_same(make, what):
    raw, stored = CachedLatents(make('raw', what=what)), CachedLatents(make('norm', what=what, normalized=True))
    back = CachedLatents(stored.folder, normalize=False)
    untouched = CachedLatents(raw.folder, normalize=False)
    for number in range(9):
        torch.testing.assert_close(raw[number]['latent'], stored[number]['latent'], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(back[number]['latent'], untouched[number]['latent'], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(STATISTICS.normalize(untouched[number]['latent']), raw[number]['latent'])


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float16', 1e-3), ('bfloat16', 1e-2)])
def test_half_precision_halves_the_files(make, dtype, tolerance):
    full, half = CachedLatents(make('full')), CachedLatents(make('half', dtype=dtype))
    assert half.stored(0).dtype == getattr(torch, dtype)
    torch.testing.assert_close(half.stored(0).float(), full.stored(0), rtol=tolerance, atol=tolerance)


def test_a_run_that_was_stopped_goes_on_and_ends_in_the_same_bytes(make, tmp_path, monkeypatch):
    whole = make('whole')
    part = make('part')
    (part / 'shard_00001.safetensors').unlink()
    (part / '.shard_00002.safetensors.99.part').write_bytes(b'torn')
    kept = (part / 'shard_00000.safetensors').stat().st_mtime_ns
    index = json.loads((part / 'index.json').read_text())
    (part / 'index.json').write_text(json.dumps({**index, 'complete': False, 'shards': [], 'skipped': []}))
    with pytest.raises(LatentCacheError, match='not finished; run tools/cache_latents.py again'):
        CachedLatents(part)
    make('part')
    assert (part / 'shard_00000.safetensors').stat().st_mtime_ns == kept
    assert shards(part) == shards(whole)
    assert (part / 'index.json').read_text() == (whole / 'index.json').read_text()


def test_a_failure_leaves_finished_shards_and_no_half_one(make, photos, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(photos / 'train', data)
    name = sorted(path.name for path in data.iterdir())[4]
    good, modified_ns = (data / name).read_bytes(), (data / name).stat().st_mtime_ns
    (data / name).write_bytes(b'')
    with pytest.raises(LatentCacheError, match=f'{name}: zero bytes; --skip-bad leaves such files out'):
        make(data=data)
    folder = tmp_path / 'cache'
    assert sorted(path.name for path in folder.iterdir()) == ['index.json', 'shard_00000.safetensors']
    (data / name).write_bytes(good)
    os.utime(data / name, ns=(modified_ns, modified_ns))
    assert shards(make(data=data)) == shards(make('whole'))


def test_bad_files_are_left_out_and_listed_if_that_is_accepted(make, photos, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(photos / 'train', data)
    names = sorted(path.name for path in data.iterdir())
    for name in names[2:6]:  # a whole shard among them
        (data / name).write_bytes(b'')
    folder = make(data=data, skip_bad=True)
    index = LatentIndex.read(folder)
    assert [entry['path'] for entry in index.skipped] == names[2:6]
    assert list(CachedLatents(folder).names) == names[:2] + names[6:]
    with pytest.raises(LatentCacheError, match='4 files could not be read when the cache was started'):
        make(data=data)


def test_a_picture_that_was_replaced_under_its_name_is_cached_anew(make, photos, tmp_path, caplog):
    data = tmp_path / 'data'
    shutil.copytree(photos / 'train', data)
    folder, names = make(data=data), sorted(path.name for path in data.iterdir())
    before = shards(folder)
    assert shards(make(data=data)) == before
    assert not caplog.messages
    shutil.copyfile(data / names[0], data / names[4])
    make(data=data)
    assert caplog.messages == [f'{folder}/shard_00001.safetensors is written again: 1 of its pictures have changed '
                               f'since, the first: {names[4]}']
    after = shards(folder)
    assert [name for name in before if after[name] != before[name]] == ['shard_00001.safetensors']
    stored = CachedLatents(folder, sample_posterior=False)
    torch.testing.assert_close(stored[names[4]]['latent'], stored[names[0]]['latent'])


def test_converted_colours_are_another_cache(make, model, photos, tmp_path):
    folder, pipeline = make(), fixed_pipeline(16)
    with pytest.raises(LatentCacheError, match='colours converted to sRGB, ResizeShortSide.* now'):
        LatentCache(model, Reconstructor(model.build(), device='cpu'),
                    open_images(photos / 'train', pipeline, convert_to_srgb=True), pipeline, 16, folder,
                    CacheSettings(shard_size=3))


@pytest.mark.parametrize(('changes', 'difference'), [
    ({'what': 'mean'}, "what is 'moments' there and 'mean' now"),
    ({'flips': True}, 'flips is False there and True now'),
    ({'dtype': 'float16'}, 'dtype is '),
    ({'edge': 24}, 'pipeline is '),
    ({'max_images': 5}, 'images is 9 there and 5 now'),
    ({'normalized': True}, 'normalized is False there and True now'),
    ({'shard_size': 4}, 'shard_size is 3 there and 4 now'),
])
def test_another_setting_is_refused_and_named(make, changes, difference):
    before = shards(make())
    with pytest.raises(LatentCacheError, match=f'holds a cache that was made with other settings: .*{difference}'):
        make(**changes)
    assert shards(make()) == before


def test_another_model_or_other_pictures_are_refused(make, make_model, photos, tmp_path):
    make()
    other = TrainedModel(CONFIG, make_model(seed=1, autoencoder=CONFIG).autoencoder.state_dict(), STATISTICS,
                         tmp_path / 'other.pth', 'native', 'ema')
    with pytest.raises(LatentCacheError, match=r'it was made by .*model\.pth \(ema .*other\.pth .*: config or weights'):
        make(model=other)
    other.path = tmp_path / 'model.pth'
    with pytest.raises(LatentCacheError, match=r'other settings: .*model\.pth \(ema weights\) has changed since'):
        make(model=other)
    data = tmp_path / 'renamed'
    shutil.copytree(photos / 'train', data)
    next(data.iterdir()).rename(data / 'x.png')
    with pytest.raises(LatentCacheError, match='made with other settings: the list of its 9 pictures is another one'):
        make(data=data)
    (tmp_path / 'cache/index.json').unlink()
    with pytest.raises(LatentCacheError, match='shard_00000.safetensors belongs to another cache'):
        make(model=other)


def test_statistics_measured_later_reach_the_index(make, model):
    model.statistics = None
    folder = make()
    assert CachedLatents(folder).normalize is False
    before = shards(folder)
    model.statistics = STATISTICS
    assert CachedLatents(make()).normalize is True
    assert shards(folder) == before


def test_what_cannot_be_cached_is_refused_before_anything_is_written(make, model, photos, tmp_path):
    with pytest.raises(SettingError, match='18 px: the model needs a multiple of 4, such as 16'):
        make(edge=18)
    (tmp_path / 'twice.jsonl').write_text('{"path": "a.png"}\n' * 2)
    Image.new('RGB', (16, 16)).save(tmp_path / 'a.png')
    with pytest.raises(SettingError, match='a.png is listed twice'):
        make(data=tmp_path / 'twice.jsonl')
    model.statistics = None
    with pytest.raises(SettingError, match='no latent statistics: run tools/measure_latents.py'):
        make(normalized=True)
    for settings in ({'what': 'all'}, {'dtype': 'int8'}, {'seed': -1}, {'shard_size': 0}):
        with pytest.raises(SettingError):
            make(**settings)
    assert not (tmp_path / 'cache').exists()


def test_a_damaged_shard_is_named(make):
    folder = make()
    path = folder / 'shard_00001.safetensors'
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(LatentCacheError, match='shard_00001.safetensors: damaged .*; remove it and run again'):
        make()


def test_a_latent_that_the_files_dtype_cannot_hold_is_an_error_and_finished_shards_stay(make, model, monkeypatch):
    parts = LatentCache._parts

    def grown(self, images, indices, *rest):
        return parts(self, images, indices, *rest) * (1e6 if max(indices) > 3 else 1.0)

    expected = shards(make('other', dtype='float16'))
    monkeypatch.setattr(LatentCache, '_parts', grown)
    with pytest.raises(NotFinite, match=r'\.png .*: the rounding of latents for the files .* in float16; .* bfloat16'):
        make('cache', dtype='float16')
    written = shards(make('cache', fill=False, dtype='float16'))
    assert list(written) == ['shard_00000.safetensors']
    assert written.items() <= expected.items()
    monkeypatch.undo()
    assert shards(make('cache', dtype='float16')) == expected


def test_a_posterior_without_numbers_is_an_error(make, model):
    model.state['encoder.conv_out.weight'].fill_(3e38)
    with pytest.raises(NotFinite, match='the encoder gave NaN or infinity in float32; no wider dtype'):
        make(model=model)
