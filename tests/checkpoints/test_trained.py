import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from wfvae_toolkit.checkpoints import CheckpointError, read_model, read_model_file, save_training_checkpoint
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.torchvision_shim import import_torchvision

CONFIG = dict(type='WFVAE2Image', latent_channels=3, widths=[8, 12], flow_width=4)
EXPORTED = {'_class_name': 'AutoencoderWFVAE2', '_diffusers_version': '0', 'auto_map': ..., 'latent_channels': 3,
            'widths': [8, 12], 'flow_width': 4, 'norm': {'type': 'LayerNorm2d'}, 'wavelet': None,
            'scaling_factor': 0.5, 'shift_factor': 0.25, 'latents_mean': [1.0, 2.0, 3.0],
            'latents_std': [2.0, 4.0, 8.0], 'block_out_channels': [8, 12]}
EXPORTED.pop('auto_map')
WEIGHTS = 'diffusion_pytorch_model'


def build(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return AUTOENCODERS.build(config)


def same(model, other):
    images = torch.rand(1, 3, 8, 12)
    return torch.equal(model(images), other(images))


def write_exported(folder, settings=EXPORTED, state=None, name=f'{WEIGHTS}.safetensors'):
    folder.mkdir(exist_ok=True)
    (folder / 'config.json').write_text(json.dumps(settings), encoding='utf-8')
    state = build().state_dict() if state is None else state
    save_file({key: value.contiguous() for key, value in state.items()}, folder / name)
    return folder


def write_native(path, iteration=1, **meta):
    raw = {f'autoencoder.{key}': value for key, value in build(1).state_dict().items()}
    save_training_checkpoint(
        {'meta': {'iteration': iteration, 'seed': 0, **meta}, 'optimizers': {},
         'state_dict': {**raw, 'discriminator.score.bias': torch.zeros(1)}, 'ema_state_dict': build(0).state_dict()},
        path, CONFIG)
    return path


class TouchesAFile:
    """A pickle that runs code where it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mknod, (self.path,)


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


def test_an_earlier_checkpoint_without_an_average_gives_its_raw_weights(tmp_path, make_earlier_model):
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path, ema_state_dict=...)
    models = read_model_file(path)
    assert list(models.models) == ['raw']
    assert models.select('ema').weights == models.select('raw').weights == 'raw'


@pytest.mark.parametrize('part', ['encoder.conv_in.weight', 'decoder.conv_in.weight'])
def test_an_average_that_lacks_more_than_its_encoder_is_refused(tmp_path, make_earlier_model, part):
    earlier = make_earlier_model('layernorm_small')
    averaged = {key: value for key, value in earlier.weights.items() if key != part}
    with pytest.raises(CheckpointError, match=f'(?s)ema weights do not fit.*{part}'):
        read_model(earlier.write_checkpoint(tmp_path, ema_state_dict=averaged)).build()


def test_an_earlier_checkpoint_needs_its_settings(tmp_path, make_earlier_model):
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path)
    (tmp_path / 'config.json').unlink()
    with pytest.raises(CheckpointError, match='put its config.json beside it'):
        read_model(path)


@pytest.mark.parametrize('weights', [3, {3: torch.zeros(1)}, {'encoder.conv_in.weight': 3}, {'fc': torch.zeros(1)}])
def test_an_earlier_checkpoint_of_something_else_is_named(tmp_path, make_earlier_model, weights):
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path, state_dict={'gen_model': weights})
    with pytest.raises(CheckpointError, match="weights are no dict of tensors|'fc' is no key of an earlier"):
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


# exported diffusers folders

def test_an_exported_folder(tmp_path):
    model = read_model(write_exported(tmp_path))
    assert (model.form, model.weights) == ('diffusers', 'ema')
    assert same(model.build(), build())
    raw = torch.randn(2, 3, 4, 4)
    mean, std = (torch.tensor(EXPORTED[key])[:, None, None] for key in ('latents_mean', 'latents_std'))
    torch.testing.assert_close(model.statistics.normalize(raw), ((raw - mean) / std - 0.25) * 0.5)
    with pytest.raises(CheckpointError, match='has no raw weights, only ema'):
        read_model(tmp_path, 'raw')


@pytest.mark.parametrize('variant', ['', '.fp16'])
def test_shards_and_variants(tmp_path, variant):
    state = {key: value.contiguous() for key, value in build().state_dict().items()}
    write_exported(tmp_path, state=state, name=f'{WEIGHTS}{variant}.safetensors')
    assert same(read_model(tmp_path).build(), build())
    (tmp_path / f'{WEIGHTS}{variant}.safetensors').unlink()
    index = {}
    for number, keys in enumerate((list(state)[::2], list(state)[1::2]), 1):
        shard = f'{WEIGHTS}{variant}-{number:05}-of-00002.safetensors'
        save_file({key: state[key] for key in keys}, tmp_path / shard)
        index |= dict.fromkeys(keys, shard)
    path = tmp_path / f'{WEIGHTS}.safetensors.index{variant}.json'
    path.write_text(json.dumps({'weight_map': index}), encoding='utf-8')
    assert same(read_model(tmp_path).build(), build())
    last = list(state)[-1]
    path.write_text(json.dumps({'weight_map': {**index, last: '../elsewhere.safetensors'}}), encoding='utf-8')
    with pytest.raises(CheckpointError, match="'../elsewhere.safetensors', which is no safetensors file beside it"):
        read_model(tmp_path)
    path.write_text(json.dumps({'weight_map': {**index, 'encoder.extra': index[last]}}), encoding='utf-8')
    with pytest.raises(CheckpointError, match='index and shards differ in encoder.extra'):
        read_model(tmp_path)


def test_one_of_several_variants_is_named(tmp_path):
    for variant in ('bf16', 'fp16'):
        write_exported(tmp_path, name=f'{WEIGHTS}.{variant}.safetensors')
    with pytest.raises(CheckpointError, match=f'several variants; name one of {WEIGHTS}.bf16.safetensors'):
        read_model(tmp_path)
    assert same(read_model(tmp_path / f'{WEIGHTS}.fp16.safetensors').build(), build())


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(typo=3), 'AutoencoderWFVAE2 has no setting typo'),
    (dict(latents_mean=[1.0]), 'are no statistics of 3 latent channels'),
    (dict(latents_std=[1.0, 0.0, 1.0]), 'are no statistics of 3 latent channels'),
    (dict(latents_mean=3.0), 'latents_mean=3.0; a list is read'),
    (dict(latent_channels='3'), "latent_channels='3'; an integer is read"),
    (dict(scaling_factor=0), 'are no statistics of 3 latent channels'),
    (dict(norm={'type': 'subprocess.Popen', 'args': ['touch', 'trace']}), "names type 'subprocess.Popen', which no"),
    (dict(wavelet={'type': 'os.system', 'command': 'touch trace'}), "names type 'os.system', which no registry"),
    (dict(widths=[8, 16]), 'do not fit its own config'),
    (dict(_class_name='UNet2DConditionModel'), 'of a UNet2DConditionModel; read are .*a MODEL is'),
    (dict(_class_name=None), 'of a model without _class_name'),
])
def test_settings_of_an_exported_folder_are_checked(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    folder = write_exported(tmp_path / 'vae', {**EXPORTED, **changes})
    with pytest.raises(CheckpointError, match=message):
        read_model(folder).build()
    assert not (tmp_path / 'trace').exists()


# diffusers' own autoencoders

@pytest.fixture
def diffusers():
    import_torchvision()  # which diffusers imports, and fails without the shim beside a CPU build of torch
    import diffusers
    return diffusers


def save_kl(diffusers, folder, **settings):
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8, latent_channels=4,
        down_block_types=('DownEncoderBlock2D',) * 2, up_block_types=('UpDecoderBlock2D',) * 2, **settings).eval()
    model.save_pretrained(folder)
    return model


def test_autoencoder_kl(tmp_path, diffusers):
    theirs = save_kl(diffusers, tmp_path, scaling_factor=0.5, shift_factor=0.25)
    model = read_model(tmp_path)
    ours, images = model.build(), torch.rand(1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images).sample)
    assert model.statistics == LatentStatistics((0.25,) * 4, (2.0,) * 4)
    # Files from before diffusers 0.18.
    path = tmp_path / f'{WEIGHTS}.safetensors'
    old = load_file(path)
    for now, then in (('to_q', 'query'), ('to_k', 'key'), ('to_v', 'value'), ('to_out.0', 'proj_attn')):
        old = {key.replace(f'.{now}.', f'.{then}.'): value for key, value in old.items()}
    assert any('proj_attn' in key for key in old)
    save_file(old, path)
    assert torch.equal(read_model(tmp_path).build()(images), ours(images))


def test_an_autoencoder_kl_that_ours_cannot_be_is_named(tmp_path, diffusers):
    save_kl(diffusers, tmp_path, use_quant_conv=False, mid_block_add_attention=False)
    with pytest.raises(CheckpointError, match='cannot express mid_block_add_attention=False, use_quant_conv=False'):
        read_model(tmp_path)


def test_autoencoder_dc(tmp_path, diffusers):
    theirs = diffusers.AutoencoderDC(
        latent_channels=4, encoder_block_out_channels=(8, 16), decoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()), scaling_factor=0.25).eval()
    theirs.save_pretrained(tmp_path)
    model = read_model(tmp_path)
    images = torch.rand(1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.build()(images), theirs(images).sample)
    assert model.statistics == LatentStatistics((0.0,) * 4, (4.0,) * 4)


# native

def test_a_runs_folder_gives_its_newest_good_checkpoint(tmp_path):
    for iteration in (900, 1000):
        write_native(tmp_path / f'iter_{iteration}.pth', iteration)
    shutil.copy(tmp_path / 'iter_1000.pth', tmp_path / 'iter_10000.pth')
    assert read_model(tmp_path).path.name == 'iter_10000.pth'
    with open(tmp_path / 'iter_10000.pth', 'r+b') as file:
        file.truncate(5000)
    model = read_model(tmp_path)
    assert (model.path.name, model.meta['iteration'], model.form) == ('iter_1000.pth', 1000, 'native')
    assert same(model.build(), build(0))
    assert same(read_model(tmp_path, 'raw').build(), build(1))
    assert list(read_model_file(tmp_path).others) == ['discriminator.score.bias']
    for path in tmp_path.iterdir():
        path.write_bytes(b'damaged')
    with pytest.raises(CheckpointError, match='none of its 3 checkpoints can be read; the newest: .*iter_10000.pth'):
        read_model(tmp_path)


def test_statistics_of_a_native_checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    assert read_model(write_native(path)).statistics is None
    write_native(path, latent_statistics='{"mean": [1, 2, 3], "std": [1, 2, 4]}')
    assert read_model(path).statistics == LatentStatistics((1.0, 2.0, 3.0), (1.0, 2.0, 4.0))
    for text in ('{"mean": [1, 2, 3], "std": [1, 2, 0]}', '{"mean": [1]}', '[]', 'x', '3'):
        with pytest.raises(CheckpointError, match='no readable latent_statistics'):
            read_model(write_native(path, latent_statistics=text))
    with pytest.raises(CheckpointError, match='statistics of 2 latent channels for 3'):
        read_model(write_native(path, latent_statistics='{"mean": [1, 2], "std": [1, 2]}')).build()


# things that are no MODEL

def test_other_things_say_what_a_model_is(tmp_path, photos):
    empty = tmp_path / 'empty'
    empty.mkdir()
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    torch.save([1], tmp_path / 'list.pth')
    for path, message in (
            (empty, 'no iter_N.pth and no config.json in it; a MODEL is'),
            (tmp_path / 'nowhere', 'no such file or folder'),
            (tmp_path / 'other.pth', 'no checkpoint of this toolkit, nor of the earlier one .* a MODEL is'),
            (tmp_path / 'list.pth', 'no checkpoint of this toolkit, nor of the earlier one .* a MODEL is'),
            (next((photos / 'val').iterdir()), 'damaged or no checkpoint|refused')):
        with pytest.raises(CheckpointError, match=message) as error:
            read_model(path)
        assert str(path) in str(error.value)


def test_folders_that_hold_a_model_elsewhere_say_where(tmp_path, make_earlier_model):
    write_exported(tmp_path / 'vae')
    with pytest.raises(CheckpointError, match=r'try .*vae\)'):
        read_model(tmp_path)
    path = make_earlier_model('layernorm_small').write_checkpoint(tmp_path / 'run')
    with pytest.raises(CheckpointError, match=f'holds earlier checkpoints; name one, such as {path}'):
        read_model(tmp_path / 'run')


def test_damaged_folders_are_named(tmp_path):
    folder = write_exported(tmp_path)
    path = folder / f'{WEIGHTS}.safetensors'
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=f'{path}: damaged or no safetensors'):
            read_model(folder)
    path.unlink()
    (folder / f'{WEIGHTS}.bin').write_bytes(b'')
    with pytest.raises(CheckpointError, match=f'{WEIGHTS}.bin is a pickle, which is not read'):
        read_model(folder)
    for text in ('', '[]', '{'):
        (folder / 'config.json').write_text(text, encoding='utf-8')
        with pytest.raises(CheckpointError, match='config.json: (cannot be read as JSON|holds no settings)'):
            read_model(folder)
