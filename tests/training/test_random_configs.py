"""Random valid configs: each builds, trains both networks, and comes back the same from its checkpoint."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wfvae_toolkit.checkpoints import read_model, save_training_checkpoint
from wfvae_toolkit.training import AutoencoderTraining, TurnOptimizers

NORMS = st.sampled_from([dict(type='LayerNorm2d'), dict(type='RMSNorm2d'), dict(type='GroupNorm', groups=4)])
WAVELETS = st.sampled_from([dict(type='Haar'), dict(type='DiscreteWavelet', name='db2'),
                            dict(type='DiscreteWavelet', name='bior2.2')])
BLOCKS = st.lists(st.sampled_from([dict(type='ResidualBlock'), dict(type='SpatialAttention')]), max_size=2)
ROWS = ('L1Loss', 'L2Loss')
MORE_ROWS = ('WaveletBandLoss', 'HighPassLoss', 'FocalFrequencyLoss', 'SSIMLoss', 'SpectralRegularizationLoss')
SIZE = 32


@st.composite
def autoencoders(draw):
    """AUTOENCODERS configs of few thousand parameters."""
    stages = draw(st.integers(2, 3))
    widths = st.lists(st.sampled_from([4, 8, 12]), min_size=stages, max_size=stages)
    config = dict(
        type='WFVAE2Image', latent_channels=draw(st.sampled_from([1, 3, 4])), widths=draw(widths),
        decoder_widths=draw(st.none() | widths), encoder_layers=draw(st.integers(1, 2)),
        decoder_layers=draw(st.integers(2, 3)), energy_flow=draw(st.booleans()),
        flow_width=draw(st.sampled_from([4, 8])), decoder_flow_width=draw(st.none() | st.sampled_from([4, 8])),
        wavelet=draw(WAVELETS), norm=draw(NORMS), mid_blocks=draw(BLOCKS), dropout=draw(st.sampled_from([0.0, 0.3])),
        channel_attention=draw(st.none() | st.just(dict(type='ECA'))), output_activation=draw(st.booleans()),
        checkpoint_activations=draw(st.booleans()))
    if config['latent_channels'] == 4:
        config['widths'], config['decoder_widths'] = [8] * stages, [12] * stages
        config['latent_shortcuts'] = draw(st.booleans())
    return config


@st.composite
def models(draw):
    """Arguments of AutoencoderTraining."""
    autoencoder = draw(autoencoders())
    losses = dict(pixel=dict(type=draw(st.sampled_from(ROWS)), weight=draw(st.floats(0.1, 10))),
                  kl=draw(st.none() | st.just(dict(type='KLLoss', weight=1e-3))))
    more = draw(st.none() | st.sampled_from(MORE_ROWS))
    losses['more'] = None if more is None else dict(type=more)
    if autoencoder['energy_flow']:
        losses['wavelet'] = draw(st.none() | st.just(dict(type='WaveletFlowLoss')))
    discriminator = draw(st.none() | st.fixed_dictionaries(dict(
        type=st.just('PatchDiscriminator'), num_layers=st.integers(1, 2), width=st.sampled_from([4, 8]),
        norm=st.sampled_from(['spectral', 'batch', 'instance', 'none']))))
    if discriminator is not None:
        losses['adversarial'] = dict(type='AdversarialLoss', balance=draw(st.sampled_from([(), ('pixel',)])),
                                     objective=draw(st.sampled_from(['hinge', 'vanilla'])))
    return dict(autoencoder=autoencoder, losses=losses, discriminator=discriminator,
                turns=draw(st.sampled_from(['alternate', 'joint'])), normalize=draw(st.booleans()),
                learn_logvar=draw(st.booleans()), precision=draw(st.sampled_from(['fp32', 'bf16'])))


def check(config, path, make_batch, make_images):
    """The tested property; random weights are enough for it."""
    torch.manual_seed(0)
    model = AutoencoderTraining(**config).train()
    row = dict(optimizer=dict(type='AdamW', lr=1e-4))
    optimizers = TurnOptimizers(dict(autoencoder=row, discriminator=row))(model)
    batch = make_batch(make_images(2, SIZE, SIZE))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for iteration in range(2):
        update = model.train_step([batch], optimizers, model.turns_of(iteration))
        assert update.skipped is None
        assert all(torch.isfinite(value).all() for value in update.log.values())
    networks = ['autoencoder.', 'discriminator.'] if config['discriminator'] else ['autoencoder.']
    for network in networks:
        assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items()
                   if name.startswith(network))
    model.eval()
    save_training_checkpoint({'meta': {'iteration': 2}, 'state_dict': model.state_dict()}, path,
                             model.autoencoder_config)
    images = make_images(1, SIZE, SIZE, seed=3)
    with torch.no_grad():
        expected = model.autoencoder(images)
        found = read_model(path, 'raw').build()(images)
    assert expected.shape == images.shape
    assert torch.equal(found, expected)


PROPERTY = settings(max_examples=20, deadline=None, derandomize=True, database=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@PROPERTY
@given(config=models())
def test_a_random_config_trains_and_comes_back_the_same(config, tmp_path, make_batch, make_images):
    check(config, tmp_path / 'iter_2.pth', make_batch, make_images)


@pytest.mark.slow
@settings(PROPERTY, max_examples=300, derandomize=False, print_blob=True)
@given(config=models())
def test_many_random_configs_do(config, tmp_path, make_batch, make_images):
    check(config, tmp_path / 'iter_2.pth', make_batch, make_images)
