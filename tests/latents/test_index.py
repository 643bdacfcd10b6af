import json

import pytest

from wfvae_toolkit.latents import LatentCacheError, LatentIndex


def index(**changes):
    return LatentIndex(**{**dict(
        settings={'what': 'moments', 'dtype': 'float32', 'flips': False, 'normalized': False, 'images': 3},
        protocol={}, complete=True, statistics={'mean': [0.0, 1.0], 'std': [1.0, 2.0]}, latent_shape=[2, 4, 4],
        skipped=[{'path': 'x.png', 'reason': 'zero bytes'}],
        shards=[{'file': 'shard_00000.safetensors', 'names': ['a.png', 'b.png']}]), **changes})


def test_what_is_written_is_read(tmp_path):
    index().write(tmp_path)
    assert vars(LatentIndex.read(tmp_path)) == vars(index())


@pytest.mark.parametrize('changes', [
    {'shards': [{'file': '../shard_00000.safetensors', 'names': ['a.png', 'b.png']}]},
    {'shards': [{'file': '/etc/shard_00000.safetensors', 'names': ['a.png', 'b.png']}]},
    {'shards': [{'file': 'shard_00000.safetensors\n', 'names': ['a.png', 'b.png']}]},
    {'shards': [{'file': 'other.bin', 'names': ['a.png', 'b.png']}]},
    {'shards': [{'file': 5, 'names': ['a.png', 'b.png']}]},
    {'shards': [{'file': 'shard_00000.safetensors', 'names': ['a.png', 'a.png']}]},
    {'shards': [{'file': 'shard_00000.safetensors', 'names': ['a.png', 7]}]},
    {'shards': [{'file': 'shard_00000.safetensors', 'names': ['a.png']}]},
    {'shards': [{'file': 'shard_00000.safetensors', 'names': [name]} for name in ('a.png', 'b.png')]},
    {'shards': [{'names': ['a.png', 'b.png']}]},
    {'shards': None},
    {'statistics': {'mean': [0.0], 'std': [1.0, 1.0]}},
    {'statistics': {'mean': [0.0, 0.0], 'std': [1.0, 0.0]}},
    {'statistics': {'mean': [0.0, 'x'], 'std': [1.0, 1.0]}},
    {'latent_shape': [2, 4]},
    {'latent_shape': [2, 4, True]},
    {'settings': {'what': 'everything', 'dtype': 'float32', 'flips': False, 'normalized': False, 'images': 3}},
    {'settings': {'what': 'mean', 'dtype': 'int8', 'flips': False, 'normalized': False, 'images': 3}},
    {'settings': {'what': 'mean', 'dtype': 'float32', 'flips': 2, 'normalized': False, 'images': 3}},
    {'settings': {}},
])
def test_an_index_that_contradicts_itself_is_refused(tmp_path, changes):
    index(**changes).write(tmp_path)
    with pytest.raises(LatentCacheError, match='index.json: not an index of cached latents'):
        LatentIndex.read(tmp_path)


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null', '{"format": "another"}', '[' * 100_000])
def test_what_is_no_index_is_refused(tmp_path, text):
    (tmp_path / 'index.json').write_text(text)
    with pytest.raises(LatentCacheError, match='index.json: not an index of cached latents'):
        LatentIndex.read(tmp_path)


def test_a_later_format_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(LatentCacheError, match='no such file; tools/cache_latents.py writes it'):
        LatentIndex.read(tmp_path)
    index().write(tmp_path)
    path = tmp_path / 'index.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'format_version': 2}))
    with pytest.raises(LatentCacheError, match='format 2, this version reads 1'):
        LatentIndex.read(tmp_path)
