import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import count_parameters
from wfvae_toolkit.checkpoints import convert_earlier_state
from wfvae_toolkit.models.autoencoders import WFVAE2Image
from wfvae_toolkit.utils.config import load_config

DATA = Path(__file__).resolve().parents[2] / 'data'


@pytest.fixture(scope='module')
def settings():
    """Of the shipped 32x config."""
    settings = load_config('wfvae_toolkit::wfvae2_32x_1024.py').model.autoencoder.to_dict()
    settings.pop('type')
    return settings


def test_reference(settings):
    numbers = json.loads((DATA / 'residual_32x_small.json').read_text(encoding='utf-8'))['config']
    io = load_file(DATA / 'residual_32x_small.io.safetensors')
    autoencoder = WFVAE2Image(**{
        **settings, 'latent_channels': numbers['latent_dim'], 'widths': numbers['base_channels'],
        'encoder_layers': numbers['encoder_num_resblocks'], 'decoder_layers': numbers['decoder_num_resblocks']})
    weights = load_file(DATA / 'residual_32x_small.weights.safetensors')
    autoencoder.load_state_dict(convert_earlier_state(weights, 'autoencoder'))
    with torch.no_grad():
        encoded = autoencoder.encode(io['input'])
        found = dict(mean=encoded.latent_dist.mean, logvar=encoded.latent_dist.logvar,
                     recon=autoencoder.decode(encoded.latent_dist.mode()).sample)
    for name, value in found.items():
        assert (value - io[name]).abs().max() <= 1e-5 * io[name].abs().max(), name


@pytest.mark.parametrize(('energy_flow', 'encoder', 'decoder'), [
    (False, 145_554_128, 322_247_792), (True, 152_167_632, 337_712_820)])
def test_parameter_counts(settings, energy_flow, encoder, decoder):
    with torch.device('meta'):
        autoencoder = WFVAE2Image(**{**settings, 'energy_flow': energy_flow})
    assert (count_parameters(autoencoder.encoder), count_parameters(autoencoder.decoder)) == (encoder, decoder)
    assert autoencoder.downsample_factor == 32


def test_latent_shortcuts_need_widths_that_divide(settings):
    with pytest.raises(ValueError, match='the 96 channels of the encoder must divide'):
        WFVAE2Image(**{**settings, 'latent_channels': 48})


@pytest.mark.parametrize('energy_flow', [True, False])
def test_residual_sampling_with_and_without_energy_flow_trains(make_model, make_images, energy_flow):
    model = make_model(
        autoencoder=dict(widths=(8, 16), energy_flow=energy_flow, downsample=dict(type='ResidualDownsample'),
                         upsample=dict(type='ResidualUpsample'), channel_attention=dict(type='ECA')),
        losses=dict(pixel=dict(type='L1Loss')))
    loss, _ = model.autoencoder_turn(make_images(2, 32, 32))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.autoencoder.parameters())
