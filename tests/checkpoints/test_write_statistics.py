import json
import shutil

import pytest
import torch

from wfvae_toolkit.checkpoints import (
    CheckpointError,
    TrainedModel,
    export_model,
    fingerprint,
    load_training_checkpoint,
    read_model,
    save_training_checkpoint,
    write_statistics,
)
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import SettingError

CONFIG = dict(type='WFVAE2Image', latent_channels=3, widths=[8, 12], flow_width=4)
STATISTICS = LatentStatistics((0.1, -0.25, 1 / 3), (1.5, 0.01, 7.0))


@pytest.fixture
def checkpoint(make_model, tmp_path):
    """iter_7.pth with raw and averaged weights, an optimizer's state and a hook's."""
    autoencoder = make_model(autoencoder=CONFIG).autoencoder
    state = {f'autoencoder.{key}': value for key, value in autoencoder.state_dict().items()}
    path = tmp_path / 'run/iter_7.pth'
    path.parent.mkdir()
    save_training_checkpoint({
        'meta': {'iteration': 7, 'seed': 3}, 'state_dict': state,
        'ema_state_dict': {key: value + 1 for key, value in autoencoder.state_dict().items()},
        'optimizers': {'autoencoder': {'state': {0: {'step': torch.tensor(7.0), 'exp_avg': torch.rand(3)}}}},
        'hooks': {'best': 21.5}}, path, CONFIG)
    return path


def flatten(node, prefix=''):
    """(path, value) of every leaf."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f'{prefix}/{key}')
        else:
            yield f'{prefix}/{key}', value


def test_a_native_checkpoint_keeps_everything_else_to_the_bit(checkpoint):
    before = dict(flatten(load_training_checkpoint(checkpoint)))
    assert read_model(checkpoint).statistics is None
    written = write_statistics(read_model(checkpoint.parent), STATISTICS, {'images': 12, 'data': 'photos'})
    assert written == checkpoint
    after = dict(flatten(load_training_checkpoint(checkpoint)))
    content = json.loads(after.pop('/meta/latent_statistics'))
    assert content == {'mean': list(STATISTICS.mean), 'std': list(STATISTICS.std), 'images': 12, 'data': 'photos'}
    assert list(after) == list(before)
    for path, value in before.items():
        assert after[path].equal(value) if isinstance(value, torch.Tensor) else after[path] == value
    assert read_model(checkpoint).statistics == STATISTICS
    assert [path.name for path in checkpoint.parent.iterdir()] == ['iter_7.pth']


def test_a_run_s_folder_keeps_a_copy_of_the_record(checkpoint):
    (checkpoint.parent / 'last_checkpoint').write_text('iter_7.pth')
    write_statistics(read_model(checkpoint), STATISTICS, {'images': 12})
    assert json.loads((checkpoint.parent / 'latent_statistics.json').read_text()) == {
        'checkpoint': 'iter_7.pth', 'mean': list(STATISTICS.mean), 'std': list(STATISTICS.std), 'images': 12}


def test_measured_again_they_are_replaced(checkpoint):
    write_statistics(read_model(checkpoint), LatentStatistics((0.0,) * 3, (1.0,) * 3), {'old': 1})
    write_statistics(read_model(checkpoint), STATISTICS)
    assert read_model(checkpoint).statistics == STATISTICS
    assert 'old' not in load_training_checkpoint(checkpoint)['meta']['latent_statistics']


def folder_model(folder, form, path=None):
    folder.mkdir()
    config = {'_class_name': 'Some', 'latent_dim': 3, 'scaling_factor': 0.5, 'nested': {'kept': [1, 2]}}
    (folder / 'config.json').write_text(json.dumps(config))
    return TrainedModel(CONFIG, {}, None, path or folder, form, 'ema'), config


def test_an_exported_folder_has_the_names_of_diffusers(tmp_path):
    model, config = folder_model(tmp_path / 'model', 'diffusers')
    assert write_statistics(model, STATISTICS, {'images': 5}) == tmp_path / 'model/config.json'
    assert json.loads((tmp_path / 'model/config.json').read_text()) == {
        **config, 'latents_mean': list(STATISTICS.mean), 'latents_std': list(STATISTICS.std),
        'scaling_factor': 1.0, 'shift_factor': 0.0}
    assert json.loads((tmp_path / 'model/latent_statistics.json').read_text())['images'] == 5


@pytest.mark.parametrize('form', ['earlier folder', 'earlier checkpoint'])
def test_an_earlier_model_has_scale_and_shift(tmp_path, form):
    path = tmp_path / 'model/last.ckpt' if form == 'earlier checkpoint' else None
    model, config = folder_model(tmp_path / 'model', form, path)
    write_statistics(model, STATISTICS)
    found = json.loads((tmp_path / 'model/config.json').read_text())
    raw = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    shift, scale = (torch.tensor(found.pop(key), dtype=torch.float64)[:, None, None] for key in ('shift', 'scale'))
    torch.testing.assert_close((raw - shift) * scale, STATISTICS.normalize(raw))
    assert found == config


def test_another_number_of_channels_is_refused(checkpoint):
    before = checkpoint.read_bytes()
    with pytest.raises(SettingError, match='statistics of 2 channels for a model of 3'):
        write_statistics(read_model(checkpoint), LatentStatistics((0.0, 0.0), (1.0, 1.0)))
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize('text', ['no JSON', '{}', '{"mean": [0], "std": [0]}', '{"mean": [0], "std": ["x"]}', '[]'])
def test_damaged_statistics_are_named(checkpoint, text):
    content = load_training_checkpoint(checkpoint)
    content['meta']['latent_statistics'] = text
    save_training_checkpoint(content, checkpoint, CONFIG)
    with pytest.raises(CheckpointError, match='iter_7.pth: no readable latent_statistics'):
        read_model(checkpoint)


def test_fingerprint_is_of_weights_and_config_alone(checkpoint, tmp_path):
    model = read_model(checkpoint)
    print_ = fingerprint(model)
    assert len(print_) == 64
    shutil.copy(checkpoint, tmp_path / 'copy.pth')
    write_statistics(model, STATISTICS)
    assert fingerprint(read_model(checkpoint)) == fingerprint(read_model(tmp_path / 'copy.pth')) == print_
    assert fingerprint(read_model(checkpoint, 'raw')) != print_
    key = next(iter(model.state))
    model.state[key] = model.state[key] + 1
    assert fingerprint(model) != print_


ACTIVATIONS = {'encoder': {'value': 12.5, 'module': 'encoder.conv_in'},
               'decoder': {'value': 3.0, 'module': 'decoder.mid.0'}, 'images': 32}


def test_activations_travel_with_the_model(checkpoint, tmp_path):
    write_statistics(read_model(checkpoint), STATISTICS, {'largest_activations': ACTIVATIONS})
    model = read_model(checkpoint)
    assert model.meta['largest_activations'] == ACTIVATIONS
    export_model(model, tmp_path / 'model.pth', 'native')
    assert read_model(tmp_path / 'model.pth').meta['largest_activations'] == ACTIVATIONS
    assert read_model(tmp_path / 'model.pth').statistics == STATISTICS


@pytest.mark.parametrize('found', [5, {'encoder': {}}, {**ACTIVATIONS, 'images': 'x'}, []], ids=str)
def test_activations_that_are_none_are_named(checkpoint, found):
    write_statistics(read_model(checkpoint), STATISTICS, {'largest_activations': found})
    with pytest.raises(CheckpointError, match='iter_7.pth: no readable largest_activations'):
        read_model(checkpoint)
