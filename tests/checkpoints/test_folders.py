import json

import pytest
from safetensors.torch import save_file

from tests.checkpoints.files import WEIGHTS, same, write_exported
from tests.helpers import build_small
from wfvae_toolkit.checkpoints import CheckpointError, read_model


@pytest.mark.parametrize('variant', ['', '.fp16'])
def test_shards_and_variants(tmp_path, variant):
    state = {key: value.contiguous() for key, value in build_small().state_dict().items()}
    write_exported(tmp_path, state=state, name=f'{WEIGHTS}{variant}.safetensors')
    assert same(read_model(tmp_path).build(), build_small())
    (tmp_path / f'{WEIGHTS}{variant}.safetensors').unlink()
    index = {}
    for number, keys in enumerate((list(state)[::2], list(state)[1::2]), 1):
        shard = f'{WEIGHTS}{variant}-{number:05}-of-00002.safetensors'
        save_file({key: state[key] for key in keys}, tmp_path / shard)
        index |= dict.fromkeys(keys, shard)
    path = tmp_path / f'{WEIGHTS}.safetensors.index{variant}.json'
    path.write_text(json.dumps({'weight_map': index}), encoding='utf-8')
    assert same(read_model(tmp_path).build(), build_small())
    last = list(state)[-1]
    path.write_text(json.dumps({'weight_map': {**index, last: '../elsewhere.safetensors'}}), encoding='utf-8')
    with pytest.raises(CheckpointError, match="'../elsewhere.safetensors', which is not a safetensors file beside it"):
        read_model(tmp_path)
    path.write_text(json.dumps({'weight_map': {**index, 'encoder.extra': index[last]}}), encoding='utf-8')
    with pytest.raises(CheckpointError, match='index and shards differ in encoder.extra'):
        read_model(tmp_path)


def test_one_of_several_variants_is_named(tmp_path):
    for variant in ('bf16', 'fp16'):
        write_exported(tmp_path, name=f'{WEIGHTS}.{variant}.safetensors')
    with pytest.raises(CheckpointError, match=f'several variants; name one of {WEIGHTS}.bf16.safetensors'):
        read_model(tmp_path)
    assert same(read_model(tmp_path / f'{WEIGHTS}.fp16.safetensors').build(), build_small())


def test_damaged_folders_are_named(tmp_path):
    folder = write_exported(tmp_path)
    path = folder / f'{WEIGHTS}.safetensors'
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=f'{path}: damaged or not a safetensors'):
            read_model(folder)
    path.unlink()
    (folder / f'{WEIGHTS}.bin').write_bytes(b'')
    with pytest.raises(CheckpointError, match=f'{WEIGHTS}.bin is a pickle, which is not read'):
        read_model(folder)
    for text in ('', '[]', '{'):
        (folder / 'config.json').write_text(text, encoding='utf-8')
        with pytest.raises(CheckpointError, match='config.json: (cannot be read as JSON|a dict of settings is needed)'):
            read_model(folder)
