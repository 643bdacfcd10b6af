"""The plain formulation is a reference only if it computes the same."""

import pytest
import torch

from tests.tolerances import of_network
from wfvae_toolkit.analysis.benchmark.plain import PlainTurns, plain_autoencoder
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.seeding import mix_seed, standard_normal

LOSSES = dict(
    pixel=dict(type='L1Loss'), kl=dict(type='KLLoss', weight=1e-3),
    perceptual=dict(type='STLPIPSLoss', net='alex'), wavelet=dict(type='WaveletFlowLoss', weight=0.1),
    adversarial=dict(type='AdversarialLoss', weight=0.5, balance=('pixel', 'perceptual')))


@pytest.fixture
def turns(make_model, make_images):
    model = make_model(losses=LOSSES)
    images = make_images(height=32, width=32)
    seeds = [5, 6]
    with torch.no_grad():
        shape = model.autoencoder.encode(images).latent_dist.mean.shape[1:]
    noise = standard_normal(shape, [mix_seed('posterior', seed) for seed in seeds])
    return model, PlainTurns(model), images, seeds, noise


def test_networks_give_the_same(make_images):
    torch.manual_seed(0)
    ours = AUTOENCODERS.build(dict(type='WFVAE2Image', latent_channels=3, widths=(8, 12, 16), flow_width=4))
    plain = plain_autoencoder(ours)
    images = make_images()
    for got, expected in ((plain.encode(images).latent_dist.mean, ours.encode(images).latent_dist.mean),
                          (plain(images), ours(images))):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert not any(parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
                   for parameter in plain.parameters())


def test_autoencoder_turn_gives_the_same_loss_and_gradients(turns):
    model, plain, images, seeds, noise = turns
    loss, _ = model.autoencoder_turn(images, sample_seeds=seeds)
    loss.backward()
    expected = plain.autoencoder_turn(images, noise)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for (name, ours), theirs in zip(model.autoencoder.named_parameters(), plain.autoencoder.parameters(), strict=True):
        largest = theirs.grad.abs().max()
        # Softmax does not see the key's bias: its gradient is rounding noise.
        if not name.endswith('key.bias'):
            assert (ours.grad - theirs.grad).abs().max() <= of_network(model.autoencoder) * largest, name


def test_discriminator_turn_gives_the_same_loss_and_gradients(turns):
    model, plain, images, seeds, noise = turns
    loss, _ = model.discriminator_turn(images, sample_seeds=seeds)
    loss.backward()
    expected = plain.discriminator_turn(images, noise)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for ours, theirs in zip(model.discriminator.parameters(), plain.discriminator.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5 * float(theirs.grad.abs().max()))


@pytest.mark.parametrize('options', [dict(wavelet=dict(type='PixelUnshuffle')), dict(energy_flow=False)])
def test_other_models_are_refused(options):
    autoencoder = AUTOENCODERS.build(dict(type='WFVAE2Image', latent_channels=3, widths=(8, 12), **options))
    with pytest.raises(ValueError, match='plain formulation'):
        plain_autoencoder(autoencoder)
