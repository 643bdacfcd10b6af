import contextlib
import json
import pickle
import re
import zipfile

import pytest
import torch

from tests.helpers import SMALL, TouchesAFile, build_small
from wfvae_toolkit.checkpoints import (
    CheckpointError,
    find_resumable,
    list_checkpoints,
    load_training_checkpoint,
    read_model,
    save_training_checkpoint,
)
from wfvae_toolkit.registry import AUTOENCODERS

CONFIG = dict(SMALL, wavelet=dict(type='Haar'))


def load_autoencoder(path, weights='ema'):
    return read_model(path, weights).build()


def named(path):
    return re.escape(str(path))


def make_checkpoint(iteration=1):
    raw = {f'autoencoder.{key}': value for key, value in build_small(0).state_dict().items()}
    return {'meta': {'iteration': iteration, 'seed': 7},
            'state_dict': {**raw, 'discriminator.score.bias': torch.zeros(1)},
            'ema_state_dict': build_small(1).state_dict(),
            'optimizers': {'autoencoder': {'param_groups': [{'lr': 1e-5, 'betas': (0.9, 0.999)}]}}, 'best': None}


def save(path, config=CONFIG, **changes):
    save_training_checkpoint({**make_checkpoint(), **changes}, path, config)
    return path


def save_with_config(path, config):
    """A file whose config is not the one that its writer had."""
    checkpoint = load_training_checkpoint(save(path))
    checkpoint['meta']['autoencoder'] = config if isinstance(config, str) else json.dumps(config)
    torch.save(checkpoint, path)
    return path


# round trip

def test_round_trip(tmp_path):
    path = save(tmp_path / 'iter_1.pth')
    expected, loaded = make_checkpoint(), load_training_checkpoint(path)
    assert loaded.keys() == expected.keys()
    for part in ('state_dict', 'ema_state_dict'):
        assert loaded[part].keys() == expected[part].keys()
        assert all(torch.equal(value, expected[part][key]) for key, value in loaded[part].items())
    assert loaded['optimizers'] == expected['optimizers']
    meta = loaded['meta']
    assert (meta['iteration'], meta['seed'], meta['format_version']) == (1, 7, 2)
    assert json.loads(meta['autoencoder']) == {**CONFIG, 'widths': [8, 12]}


def test_a_config_that_is_no_data_is_refused_before_writing(tmp_path):
    with pytest.raises(TypeError, match='use numbers, strings, lists and dicts'):
        save(tmp_path / 'iter_1.pth', config=dict(type=AUTOENCODERS))
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(tmp_path / 'iter_1.pth')
    before = path.read_bytes()

    def fail(checkpoint, file):
        file.write(before[:len(before) // 2])
        raise OSError('No space left on device')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OSError, match='No space'):
        save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# files that are no checkpoint

@pytest.mark.parametrize('stored_as', ['zip', 'zip in a part', 'pickle'])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, stored_as):
    path, trace = tmp_path / 'iter_1.pth', tmp_path / 'trace'
    attack = TouchesAFile(trace)
    if stored_as == 'pickle':
        path.write_bytes(pickle.dumps(attack))
    else:
        checkpoint = load_training_checkpoint(save(path))
        torch.save({**checkpoint, 'best': attack} if 'part' in stored_as else attack, path)
    for read in (load_training_checkpoint, load_autoencoder):
        with pytest.raises(CheckpointError, match=f'{named(path)}: refused, .* could run code'):
            read(path)
    assert not trace.exists()
    # The attack works where pickles are run.
    with contextlib.suppress(RuntimeError):  # after it: a bare pickle is not torch's format
        torch.load(path, weights_only=False)
    assert trace.exists()


def test_truncated_files(tmp_path):
    content = save(tmp_path / 'whole.pth').read_bytes()
    path = tmp_path / 'iter_1.pth'
    for length in (0, 1, 2, 3, 4, 30, 100, 1000, len(content) // 2, len(content) - 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=named(path)):
            load_training_checkpoint(path)


def test_truncated_files_of_the_old_format_of_torch(tmp_path):
    path = tmp_path / 'iter_1.pth'
    torch.save(make_checkpoint(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for length in (*range(0, 400, 29), *range(len(content) - 400, len(content), 29)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=named(path)):
            load_training_checkpoint(path)


@pytest.mark.parametrize('content', [
    b'', b'\n', b'not a checkpoint\n', b'version https://git-lfs.github.com/spec/v1\n', b'<html></html>',
    b'{"meta": {}}', b'\x80\x02.', b'\x80\x04N.', b'PK\x03\x04', b'\x00' * 5000, b'\xff' * 100,
    bytes(range(256)) * 10, 'ümläut'.encode(), b'I1\n.', b'\x80\x02]q\x00.'])
def test_other_files(tmp_path, content):
    path = tmp_path / 'iter_1.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=named(path)):
        load_training_checkpoint(path)


def test_a_zip_of_something_else(tmp_path):
    path = tmp_path / 'iter_1.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/readme.txt', 'text')
    with pytest.raises(CheckpointError, match=named(path)):
        load_training_checkpoint(path)


@pytest.mark.parametrize('content', [torch.zeros(3), [1, 2], {}, {'meta': None}, {'meta': {'epoch': 3}},
                                     {'state_dict': {}, 'meta': {'format': 'another'}}])
def test_other_torch_files(tmp_path, content):
    path = tmp_path / 'iter_1.pth'
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f'{named(path)}: not a checkpoint of this toolkit'):
        load_training_checkpoint(path)


def test_newer_formats_say_what_to_do(tmp_path):
    path = save(tmp_path / 'iter_1.pth')
    checkpoint = load_training_checkpoint(path)
    checkpoint['meta']['format_version'] = 3
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=f'{named(path)}: format 3, this version reads up to 2; update'):
        load_training_checkpoint(path)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / 'absent.pth', tmp_path):
        with pytest.raises(CheckpointError, match=f'{named(path)}: no such file'):
            load_training_checkpoint(path)


# a run's folder

def test_newest_is_a_number(tmp_path):
    for name in ('iter_9500.pth', 'iter_100000.pth', 'iter_800.pth', 'best_PSNR.pth', '.iter_9999999.pth.1.part',
                 'iter_99999999.pth.bak', 'iter_x.pth'):
        (tmp_path / name).touch()
    assert [path.name for path in list_checkpoints(tmp_path)] == ['iter_800.pth', 'iter_9500.pth', 'iter_100000.pth']


def test_resuming_passes_over_damaged_files(tmp_path):
    warnings = []
    assert find_resumable(tmp_path, warnings.append) is None
    for iteration in (900, 1000):
        save(tmp_path / f'iter_{iteration}.pth')
    newest = tmp_path / 'iter_10000.pth'
    newest.write_bytes((tmp_path / 'iter_1000.pth').read_bytes()[:5000])
    assert find_resumable(tmp_path, warnings.append) == tmp_path / 'iter_1000.pth'
    assert len(warnings) == 1
    assert str(newest) in warnings[0]


def test_resuming_from_damaged_files_alone_is_an_error(tmp_path):
    for iteration in (1, 2):
        (tmp_path / f'iter_{iteration}.pth').touch()
    with pytest.raises(CheckpointError, match=f'{named(tmp_path)}: none of its 2 checkpoints can be read'):
        find_resumable(tmp_path, lambda message: None)


# the autoencoder of a checkpoint

@pytest.mark.parametrize(('weights', 'seed'), [('ema', 1), ('raw', 0)])
@pytest.mark.parametrize('place', ['iter_1.pth', '.'])
def test_load_autoencoder(tmp_path, weights, seed, place):
    save(tmp_path / 'iter_1.pth')
    loaded = load_autoencoder(tmp_path / place, weights)
    assert not loaded.training
    images = torch.rand(1, 3, 8, 12)
    assert torch.equal(loaded(images), build_small(seed)(images))


def test_weights_that_are_not_there(tmp_path):
    checkpoint = make_checkpoint()
    del checkpoint['ema_state_dict']
    path = tmp_path / 'iter_1.pth'
    save_training_checkpoint(checkpoint, path, CONFIG)
    with pytest.raises(CheckpointError, match=f'{named(path)}: has no ema weights, only raw'):
        load_autoencoder(path)
    with pytest.raises(CheckpointError, match='has no average weights, only raw'):
        load_autoencoder(path, 'average')
    assert load_autoencoder(path, 'raw').latent_channels == 3


@pytest.mark.parametrize('change', ['missing', 'unexpected', 'shape'])
def test_loading_is_strict(tmp_path, change):
    state = make_checkpoint()['ema_state_dict']
    if change == 'missing':
        del state['encoder.conv_in.bias']
    elif change == 'unexpected':
        state['encoder.conv_extra.bias'] = torch.zeros(1)
    else:
        state['encoder.conv_in.bias'] = torch.zeros(9)
    path = save(tmp_path / 'iter_1.pth', ema_state_dict=state)
    with pytest.raises(CheckpointError, match=rf'(?s){named(path)}: ema weights do not fit.*encoder\.conv_\w+\.bias'):
        load_autoencoder(path)


@pytest.mark.parametrize('config', [
    dict(type='subprocess.Popen', args=['touch', 'trace']),
    dict(CONFIG, wavelet=dict(type='subprocess.Popen', args=['touch', 'trace'])),
    dict(CONFIG, mid_blocks=[dict(type='ResidualBlock'), dict(type='os.system', command='touch trace')]),
    dict(CONFIG, norm=dict(type='torch.nn.Identity')),
    dict(type='wfvae_toolkit.models.autoencoders.WFVAE2Image'),
    dict(type='OurPlugInsAutoencoder'),
    dict(type=None),
])
def test_a_config_builds_registered_parts_only(tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    path = save_with_config(tmp_path / 'iter_1.pth', config)
    with pytest.raises(CheckpointError, match=f'{named(path)}: its config names type .*, which no registry holds'):
        load_autoencoder(path)
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('config', ['', '{', '[]', '3', 'null', dict(CONFIG, typo=3), dict(CONFIG, widths=[8]),
                                    dict(type='Haar'), dict(type=['WFVAE2Image']), {}])
def test_a_config_that_builds_nothing_is_named(tmp_path, config):
    path = save_with_config(tmp_path / 'iter_1.pth', config)
    with pytest.raises(CheckpointError, match=named(path)):
        load_autoencoder(path)
