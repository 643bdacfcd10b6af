import shutil

import pytest
import torch

from tests.checkpoints.files import WEIGHTS, same, write_exported, write_native
from tests.helpers import TouchesAFile, build_small
from wfvae_toolkit.checkpoints import CheckpointError, read_model, read_model_file
from wfvae_toolkit.models.latent_statistics import LatentStatistics

# earlier forms

@pytest.mark.parametrize('named_by', ['folder', 'file'])
def test_an_earlier_folder_computes_what_it_did(tmp_path, earlier_model, named_by):
    folder = earlier_model.write_folder(tmp_path)
    # Code that lies beside the weights is not looked at.
    (folder / 'modeling_wfvae2.py').write_text('raise RuntimeError("imported")', encoding='utf-8')
    model = read_model(folder if named_by == 'folder' else folder / f'{WEIGHTS}.safetensors')
    earlier_model.check(model.build())
    assert (model.form, model.weights, model.meta['class']) == ('earlier folder', 'ema', earlier_model.class_name)
    channels = earlier_model.settings['latent_dim']
    assert model.statistics == LatentStatistics((0.0,) * channels, (1 / 0.18215,) * channels)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('frozen_encoder', [False, True])
def test_an_earlier_checkpoint_gives_its_average(tmp_path, earlier_model, prefix, frozen_encoder):
    path = earlier_model.write_checkpoint(tmp_path, prefix, frozen_encoder)
    model = read_model(path)
    earlier_model.check(model.build())
    assert (model.form, model.weights, model.meta['iteration']) == ('earlier checkpoint', 'ema', 10)
    assert model.meta['class'] == earlier_model.class_name
    assert model.meta['class_from'] == 'settings'
    assert model.meta.get('encoder_from') == ('gen_model' if frozen_encoder else None)
    raw = read_model(path, 'raw').state
    key = 'decoder.conv_out.weight'
    assert torch.equal(raw[key], earlier_model.weights[key] + 1)


def test_an_earlier_checkpoint_needs_its_settings(tmp_path, make_earlier_model):
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path)
    (tmp_path / 'config.json').unlink()
    with pytest.raises(CheckpointError, match='put its config.json beside it'):
        read_model(path)


@pytest.mark.parametrize('weights', [3, {3: torch.zeros(1)}, {'encoder.conv_in.weight': 3}, {'fc': torch.zeros(1)}])
def test_an_earlier_checkpoint_of_something_else_is_named(tmp_path, make_earlier_model, weights):
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path, state_dict={'gen_model': weights})
    with pytest.raises(CheckpointError, match="weights are not a dict of tensors|'fc' is not a key of an earlier"):
        read_model(path)


@pytest.mark.parametrize('place', ['sampler_state', 'optimizer_state', 'epoch'])
def test_code_in_an_earlier_checkpoint_is_refused_and_not_run(tmp_path, make_earlier_model, place):
    attack = TouchesAFile(tmp_path / 'trace')
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path, **{place: attack})
    with pytest.raises(CheckpointError, match='refused, .* could run code'):
        read_model(path)
    assert not (tmp_path / 'trace').exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / 'trace').exists()  # the attack works where pickles are run


# a run

def test_a_runs_folder_gives_its_newest_good_checkpoint(tmp_path):
    for iteration in (900, 1000):
        write_native(tmp_path / f'iter_{iteration}.pth', iteration)
    shutil.copy(tmp_path / 'iter_1000.pth', tmp_path / 'iter_10000.pth')
    assert read_model(tmp_path).path.name == 'iter_10000.pth'
    with open(tmp_path / 'iter_10000.pth', 'r+b') as file:
        file.truncate(5000)
    model = read_model(tmp_path)
    assert (model.path.name, model.meta['iteration'], model.form) == ('iter_1000.pth', 1000, 'native')
    assert same(model.build(), build_small(0))
    assert same(read_model(tmp_path, 'raw').build(), build_small(1))
    assert list(read_model_file(tmp_path).others) == ['discriminator.score.bias']
    for path in tmp_path.iterdir():
        path.write_bytes(b'damaged')
    with pytest.raises(CheckpointError, match='none of its 3 checkpoints can be read; the newest: .*iter_10000.pth'):
        read_model(tmp_path)


# things that are no MODEL

def test_other_things_say_what_a_model_is(tmp_path, photos):
    empty = tmp_path / 'empty'
    empty.mkdir()
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    torch.save([1], tmp_path / 'list.pth')
    for path, message in (
            (empty, 'no iter_N.pth and no config.json in it; a MODEL is'),
            (tmp_path / 'nowhere', 'no such file or folder'),
            (tmp_path / 'other.pth', 'not a checkpoint of this toolkit or of the earlier code .* a MODEL is'),
            (tmp_path / 'list.pth', 'not a checkpoint of this toolkit or of the earlier code .* a MODEL is'),
            (next((photos / 'val').iterdir()), 'damaged or not a checkpoint|refused')):
        with pytest.raises(CheckpointError, match=message) as error:
            read_model(path)
        assert str(path) in str(error.value)


def test_folders_that_hold_a_model_elsewhere_say_where(tmp_path, make_earlier_model):
    write_exported(tmp_path / 'vae')
    with pytest.raises(CheckpointError, match=r'try .*vae\)'):
        read_model(tmp_path)
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path / 'run')
    with pytest.raises(CheckpointError, match=f'holds checkpoints of the earlier code; name one, such as {path}'):
        read_model(tmp_path / 'run')
