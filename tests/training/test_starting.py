import pytest
import torch

from wfvae_toolkit.checkpoints import CheckpointError, export_model, read_model
from wfvae_toolkit.training.starting import start_from


@pytest.mark.parametrize('chosen', ['ema', 'raw'])
def test_start_from_fills_everything(make_model, training_checkpoint, chosen):
    folder, content = training_checkpoint
    model = make_model(seed=4)
    assert start_from(model, folder, weights=chosen) == []
    for name, value in model.state_dict().items():
        shift = 1 if chosen == 'ema' and name.startswith('autoencoder.') else 0
        assert torch.equal(value, content['state_dict'][name] + shift), name


def test_start_from_is_strict_but_for_what_is_listed(make_model, training_checkpoint):
    folder, content = training_checkpoint
    other = make_model(seed=4, discriminator=dict(type='PatchDiscriminator', num_layers=1, width=4))
    with pytest.raises(CheckpointError, match=r'does not fit: discriminator.*allow_missing'):
        start_from(other, folder)
    fresh = start_from(other, folder, allow_missing=['discriminator.*'])
    assert 'discriminator.convs.0.weight_orig' in fresh
    assert torch.equal(other.autoencoder.last_layer, content['ema_state_dict']['decoder.conv_out.weight'])
    with pytest.raises(ValueError, match="weights='best': 'ema' or 'raw'"):
        start_from(other, folder, weights='best')


HIDDEN = {
    'wavelet': dict(wavelet=dict(type='DiscreteWavelet', name='db2')),
    'norm': dict(norm=dict(type='GroupNorm', groups=4)),
    'eps': dict(norm=dict(type='LayerNorm2d', eps=1e-5)), 'activation': dict(output_activation=True)}


@pytest.mark.parametrize('case', HIDDEN)
def test_start_from_refuses_what_shows_in_no_weight(make_model, training_checkpoint, case):
    folder, _ = training_checkpoint
    setting, = HIDDEN[case]
    before = torch.random.get_rng_state()
    other = make_model(seed=4, autoencoder=HIDDEN[case])
    state = torch.random.get_rng_state()
    with pytest.raises(CheckpointError, match=rf"weights fit, but .* model.autoencoder.{setting} was .* and is .*"
                                              rf"allow_missing=\['autoencoder.{setting}'\]"):
        start_from(other, folder)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(before, state)
    assert start_from(other, folder, allow_missing=[f'autoencoder.{setting}']) == []


def test_start_from_compares_each_setting_beside_those_that_are_meant(make_model, training_checkpoint):
    folder, _ = training_checkpoint
    changed = make_model(seed=4, autoencoder=dict(decoder_layers=3, **HIDDEN['wavelet']))
    with pytest.raises(CheckpointError, match='model.autoencoder.wavelet was .*Haar') as error:
        start_from(changed, folder, allow_missing=['autoencoder.decoder.*'])
    assert 'decoder_layers' not in str(error.value)
    fresh = start_from(changed, folder, allow_missing=['autoencoder.decoder.*', 'autoencoder.wavelet'])
    assert fresh
    assert all(name.startswith('autoencoder.decoder.') for name in fresh)


@pytest.mark.parametrize('settings', [dict(dropout=0.2), dict(checkpoint_activations=True), dict(encoder_layers=[2]),
                                      dict(norm=dict(type='LayerNorm2d'))])
def test_start_from_takes_what_computes_the_same(make_model, training_checkpoint, settings):
    folder, _ = training_checkpoint
    assert start_from(make_model(seed=4, autoencoder=settings), folder) == []


def test_start_from_another_form_brings_the_autoencoder_alone(make_model, training_checkpoint, tmp_path):
    folder, content = training_checkpoint
    path, = export_model(read_model(folder), tmp_path / 'a.pth', 'native')
    model = make_model(seed=4)
    with pytest.raises(CheckpointError, match=r"say load_from.allow_missing=\['discriminator\*'\]"):
        start_from(model, path)
    fresh = start_from(model, path, allow_missing=['discriminator*'])
    assert fresh
    assert all(name.startswith('discriminator.') for name in fresh)
    for name, value in model.autoencoder.state_dict().items():
        assert torch.equal(value, content['ema_state_dict'][name])
