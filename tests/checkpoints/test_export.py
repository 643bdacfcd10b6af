import json
import os

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import SMALL, build_small
from wfvae_toolkit.checkpoints import (
    EXPORTERS,
    CheckpointError,
    TrainedModel,
    export_model,
    load_training_checkpoint,
    read_model,
    save_training_checkpoint,
)
from wfvae_toolkit.checkpoints import export as export_module
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import SettingError

OUTPUTS = {'native': 'model.pth', 'earlier': 'model'}


@pytest.fixture
def make_trained(tmp_path):
    def make(statistics=None, weights='ema', dtype=torch.float32, seed=0, **settings):
        state = {key: value.to(dtype) for key, value in build_small(seed, **settings).state_dict().items()}
        return TrainedModel({**SMALL, **settings}, state, statistics, tmp_path, 'native', weights, {'iteration': 7})
    return make


def check_equal(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize('form', list(OUTPUTS))
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('statistics', [None, LatentStatistics((0.1, -0.2, 1 / 3), (5.49, 0.7, 1 / 7))])
def test_what_is_written_reads_back_bit_for_bit(tmp_path, make_trained, form, dtype, statistics):
    model = make_trained(statistics, dtype=dtype)
    paths = export_model(model, tmp_path / OUTPUTS[form], form)
    assert all(path.is_file() for path in paths)
    assert {path.name for path in tmp_path.iterdir()} == {OUTPUTS[form]}
    copy = read_model(tmp_path / OUTPUTS[form])
    check_equal(copy.state, model.state)
    if form == 'native':
        assert (copy.config, copy.statistics, copy.meta) == (model.config, statistics, {'iteration': 7})
    else:
        wanted = statistics or LatentStatistics.identity(3)
        assert copy.statistics.mean == wanted.mean
        assert copy.statistics.std == pytest.approx(wanted.std, rel=1e-15)


def test_an_earlier_folder_returns_as_it_was(tmp_path, earlier_model):
    folder = earlier_model.write_folder(tmp_path / 'earlier')
    export_model(read_model(folder), tmp_path / 'native.pth', 'native')
    export_model(read_model(tmp_path / 'native.pth'), tmp_path / 'again', 'earlier')
    check_equal(load_file(tmp_path / 'again/diffusion_pytorch_model.safetensors'), earlier_model.weights)
    before, after = (json.loads((path / 'config.json').read_text(encoding='utf-8'))
                     for path in (folder, tmp_path / 'again'))
    assert {key: after[key] for key in before} == before
    earlier_model.check(read_model(tmp_path / 'again').build())


@pytest.mark.parametrize('weights', ['ema', 'raw'])
def test_a_native_file_says_which_weights_it_holds(tmp_path, make_trained, weights):
    path, = export_model(make_trained(weights=weights), tmp_path / 'a.pth', 'native')
    assert read_model(path).weights == read_model(path, weights).weights == weights
    if weights == 'ema':
        with pytest.raises(CheckpointError, match='has no raw weights, only ema'):
            read_model(path, 'raw')


def test_a_file_for_inference_cannot_be_resumed(tmp_path, make_trained):
    path, = export_model(make_trained(), tmp_path / 'a.pth', 'native')
    with pytest.raises(CheckpointError, match=r'no state of a training to resume; load_from=.*a\.pth'):
        load_training_checkpoint(path)
    checkpoint = {'meta': {'iteration': 1}, 'state_dict': {}}
    save_training_checkpoint(checkpoint, tmp_path / 'iter_1.pth', SMALL)
    whole = path.stat().st_size
    assert whole < 1.3 * sum(value.nbytes for value in make_trained().state.values()) + 60_000


def test_code_and_unregistered_types_in_a_native_file(tmp_path, make_trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, = export_model(make_trained(), tmp_path / 'a.pth', 'native')
    content = torch.load(path, weights_only=True)
    for config, message in ((dict(SMALL, norm=dict(type='subprocess.Popen', args=['touch', 'trace'])), 'no registry'),
                            (dict(type='Haar'), 'builds no autoencoder'), ([], 'its config is not a dict')):
        content['meta']['autoencoder'] = json.dumps(config)
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            read_model(path).build()
    torch.save({**content, 'weights': {'a': 3}}, path)
    with pytest.raises(CheckpointError, match='damaged: it holds no weights'):
        read_model(path)
    assert not (tmp_path / 'trace').exists()


# what is there already

@pytest.mark.parametrize('form', list(OUTPUTS))
def test_nothing_is_replaced_without_force(tmp_path, make_trained, form):
    output = tmp_path / OUTPUTS[form]
    export_model(make_trained(), output, form)
    other = make_trained(seed=1)
    with pytest.raises(SettingError, match='exists; --force replaces it'):
        export_model(other, output, form)
    check_equal(read_model(output).state, make_trained().state)
    export_model(other, output, form, force=True)
    check_equal(read_model(output).state, other.state)
    assert [path.name for path in tmp_path.iterdir()] == [OUTPUTS[form]]


@pytest.mark.parametrize('form', list(OUTPUTS))
def test_a_failure_leaves_what_was_there(tmp_path, make_trained, monkeypatch, form):
    output = tmp_path / OUTPUTS[form]
    export_model(make_trained(), output, form)

    def fail(model, path):
        raise CheckpointError('different')

    monkeypatch.setattr(export_module, 'check_copy', fail)
    with pytest.raises(CheckpointError, match='different'):
        export_model(make_trained(seed=1), output, form, force=True)
    check_equal(read_model(output).state, make_trained().state)
    assert [path.name for path in tmp_path.iterdir()] == [OUTPUTS[form]]


def test_force_replaces_exported_models_only(tmp_path, make_trained):
    (tmp_path / 'precious').mkdir()
    (tmp_path / 'precious/photo.jpg').touch()
    (tmp_path / 'deep/below').mkdir(parents=True)
    (tmp_path / 'file').touch()
    for name in ('precious', 'deep'):
        with pytest.raises(SettingError, match='holds more than an exported model'):
            export_model(make_trained(), tmp_path / name, 'earlier', force=True)
    with pytest.raises(SettingError, match='is a file, which --to earlier does not write'):
        export_model(make_trained(), tmp_path / 'file', 'earlier', force=True)
    assert (tmp_path / 'precious/photo.jpg').exists()


def test_a_copy_that_differs_is_an_error(tmp_path, make_trained):
    path, = EXPORTERS['native'](make_trained(), tmp_path / 'a.pth')
    model = make_trained()
    export_module.check_copy(model, path)
    model.state['decoder.conv_in.bias'] = model.state['decoder.conv_in.bias'].nextafter(torch.tensor(9.0))
    with pytest.raises(CheckpointError, match='reads back differently: decoder.conv_in.bias'):
        export_module.check_copy(model, path)
    with pytest.raises(CheckpointError, match='reads back differently: latent statistics'):
        export_module.check_copy(make_trained(LatentStatistics((0.0,) * 3, (1.0, 1.0, 1 + 1e-12))), path)
    with pytest.raises(CheckpointError, match='reads back differently: dropout'):
        export_module.check_copy(make_trained(dropout=0.5), path)


@pytest.mark.parametrize(('form', 'output', 'message'), [
    ('native', 'model', 'name it NAME.pth'), ('native', 'iter_5.pth', 'not iter_N.pth'),
    ('tar', 'a.tar', '--to tar: use one of native, earlier')])
def test_outputs_are_checked(tmp_path, make_trained, form, output, message):
    with pytest.raises(SettingError, match=message):
        export_model(make_trained(), tmp_path / output, form)
    assert os.listdir(tmp_path) == []


def test_what_the_earlier_form_cannot_express_writes_nothing(tmp_path, make_trained):
    with pytest.raises(CheckpointError, match='cannot express norm='):
        export_model(make_trained(norm=dict(type='RMSNorm2d')), tmp_path / 'a', 'earlier')
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('form', list(EXPORTERS))
def test_weights_that_are_no_numbers_are_not_written(tmp_path, make_trained, form):
    model = make_trained()
    model.state['encoder.conv_in.weight'][0, 0, 0, 0] = float('nan')
    with pytest.raises(CheckpointError, match='hold NaN or infinity, the first is encoder.conv_in.weight'):
        export_model(model, tmp_path / 'out.pth', form)
    assert not list(tmp_path.iterdir())
