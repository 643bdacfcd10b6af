import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from wfvae_toolkit.latents import CachedLatents, LatentCacheError, LatentIndex
from wfvae_toolkit.utils.errors import SettingError, UnknownName

MEAN, STD = [1.0, -2.0], [2.0, 0.5]


@pytest.fixture
def make(tmp_path):
    """A cache of 7 latents (2, 3, 4) in shards of 3, by hand; number n has values about n."""
    def call(what='moments', flips=True, statistics=True, normalized=False, **changes):
        generator, shards, tensors = torch.Generator().manual_seed(0), [], {}
        views, parts = 1 + flips, 2 if what == 'moments' else 1
        for start in (0, 3, 6):
            names = [f'folder/{number}.png' for number in range(start, min(start + 3, 7))]
            held = {name: int(name[7]) + torch.rand(views, 2 * parts, 3, 4, generator=generator) for name in names}
            file = f'shard_{start // 3:05}.safetensors'
            save_file(held, tmp_path / file)
            shards.append({'file': file, 'names': names})
            tensors.update(held)
        LatentIndex(**{**dict(
            settings={'what': what, 'dtype': 'float32', 'flips': flips, 'normalized': normalized, 'images': 7},
            protocol={}, complete=True, statistics={'mean': MEAN, 'std': STD} if statistics else None,
            latent_shape=[2, 3, 4], skipped=[], shards=shards), **changes}).write(tmp_path)
        return tmp_path, tensors
    return call


def latents(dataset):
    return torch.stack([dataset[number]['latent'] for number in range(len(dataset))])


def test_by_number_and_by_name_in_the_order_of_the_index(make):
    folder, tensors = make()
    dataset = CachedLatents(folder, sample_posterior=False, random_flip=False, normalize=False)
    assert len(dataset) == 7
    for number in range(7):
        item = dataset[number]
        name = f'folder/{number}.png'
        assert (item['name'], item['number'], item['latent'].dtype) == (name, number, torch.float32)
        assert item['latent'].equal(tensors[name][0, :2])
        assert dataset[name]['latent'].equal(item['latent'])
    for key in (7, -1):
        with pytest.raises(IndexError, match='there are 7 latents'):
            dataset[key]
    with pytest.raises(UnknownName, match="no latent of 'folder/7.png'"):
        dataset['folder/7.png']


def test_latents_are_normalised_by_the_statistics_of_the_index(make):
    dataset = CachedLatents(make()[0], sample_posterior=False, random_flip=False)
    raw = CachedLatents(dataset.folder, sample_posterior=False, random_flip=False, normalize=False)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(latents(dataset), (latents(raw) - mean) / std)


def test_samples_follow_the_posterior_seed_and_epoch(make):
    folder, tensors = make()
    options = dict(random_flip=False, normalize=False)
    dataset, same = CachedLatents(folder, seed=5, **options), CachedLatents(folder, seed=5, **options)
    first = latents(dataset)
    assert first.equal(latents(same))
    assert not first.equal(latents(CachedLatents(folder, seed=6, **options)))
    draws = []
    for epoch in range(400):
        dataset.set_epoch(epoch)
        draws.append(latents(dataset)[:2])
    assert draws[0].equal(first[:2])
    draws = torch.stack(draws)
    for number in (0, 1):
        mean, logvar = tensors[f'folder/{number}.png'][0].chunk(2)
        std = (logvar / 2).exp()
        assert ((draws[:, number].mean(0) - mean).abs() < 5 * std / 20).all()
        torch.testing.assert_close(draws[:, number].std(0), std, rtol=0.2, atol=0)


def test_flips_come_half_of_the_time(make):
    folder, tensors = make('mean')
    dataset = CachedLatents(folder, normalize=False)
    seen = []
    for epoch in range(60):
        dataset.set_epoch(epoch)
        for item in map(dataset.__getitem__, range(7)):
            seen.append(item['latent'].equal(tensors[item['name']][1]))
            assert seen[-1] or item['latent'].equal(tensors[item['name']][0])
    assert 0.4 < sum(seen) / len(seen) < 0.6


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_change_nothing_and_see_the_epoch(make, workers):
    dataset = CachedLatents(make()[0])
    loader = DataLoader(dataset, batch_size=3, num_workers=workers, persistent_workers=workers > 0)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        batches = list(loader)
        assert [batch['latent'].shape for batch in batches] == [(3, 2, 3, 4), (3, 2, 3, 4), (1, 2, 3, 4)]
        assert batches[2]['name'] == ['folder/6.png']
        epochs.append(torch.cat([batch['latent'] for batch in batches]))
        assert epochs[-1].equal(latents(dataset))
    assert not epochs[0].equal(epochs[1])


def test_a_copy_in_another_process_opens_its_own_files(make):
    dataset = CachedLatents(make()[0])
    first = latents(dataset)
    assert latents(pickle.loads(pickle.dumps(dataset))).equal(first)


@pytest.mark.parametrize(('cache', 'asked'), [
    (dict(what='mean'), dict(sample_posterior=True)), (dict(what='sample'), dict(sample_posterior=True)),
    (dict(flips=False), dict(random_flip=True)), (dict(statistics=False), dict(normalize=True))])
def test_what_is_not_cached_is_refused_and_not_needed(make, cache, asked):
    folder, _ = make(**cache)
    (option, _), = asked.items()
    with pytest.raises(SettingError, match=f'{option}=True, but the cache holds'):
        CachedLatents(folder, **asked)
    assert getattr(CachedLatents(folder), option) is False


def test_a_cache_that_is_not_whole_is_refused(make):
    folder, _ = make()
    (folder / 'shard_00001.safetensors').unlink()
    with pytest.raises(LatentCacheError, match='shard_00001.safetensors: no such file, although the index names it'):
        CachedLatents(folder)


def test_a_shard_that_is_not_what_the_index_says_is_named(make):
    folder, _ = make(latent_shape=[2, 4, 3])
    with pytest.raises(LatentCacheError, match=r"shard_00000.safetensors: 'folder/0.png' is \(2, 4, 3, 4\) .* says"):
        CachedLatents(folder)[0]
    make()
    save_file({'x': torch.zeros(1)}, folder / 'shard_00000.safetensors')
    with pytest.raises(LatentCacheError, match='shard_00000.safetensors: damaged, or not what the index says'):
        CachedLatents(folder)[1]
    (folder / 'shard_00000.safetensors').write_bytes(b'no safetensors')
    with pytest.raises(LatentCacheError, match='shard_00000.safetensors: damaged'):
        CachedLatents(folder)[1]
