import pytest
import torch

from tests.helpers import trained_small
from wfvae_toolkit.checkpoints import CheckpointError
from wfvae_toolkit.checkpoints.halves import compare_halves, describe_halves, make_halves
from wfvae_toolkit.models.latent_statistics import LatentStatistics


def test_halves_give_the_models_tensors():
    autoencoder = trained_small().build()
    encoder, decoder = make_halves(autoencoder)
    with torch.inference_mode():
        posterior = autoencoder.encode(encoder.argument).latent_dist
        image = autoencoder.decode(decoder.argument).sample
        assert encoder.outputs == ['posterior_mean', 'posterior_logvar']
        for name, found in zip(posterior.names, encoder.network(encoder.argument), strict=True):
            assert torch.equal(found, getattr(posterior, name))
        assert torch.equal(decoder.network(decoder.argument), image)


def test_what_config_json_tells():
    trained = trained_small(statistics=LatentStatistics((0.0, 1.0, 2.0), (1.0, 2.0, 3.0)),
                            posterior=dict(type='DeterministicPosterior'))
    assert describe_halves(trained, trained.build()) == dict(
        downsample_factor=4, latent_channels=3, posterior=dict(type='DeterministicPosterior'), latents_mean=[0, 1, 2],
        latents_std=[1, 2, 3], largest_activations=None)


@pytest.mark.parametrize(('index', 'name'), [(0, 'posterior_mean'), (1, 'posterior_logvar'), (2, 'image')])
@pytest.mark.parametrize('error', [2e-4, float('nan')])
def test_an_output_that_differs_is_named(index, name, error):
    autoencoder = trained_small().build()
    encoder, decoder = (half.network for half in make_halves(autoencoder))

    def wrong(place, value):
        return value + error if place == index else value

    @torch.inference_mode()
    def encode(images):
        return [wrong(place, value) for place, value in enumerate(encoder(images))]

    @torch.inference_mode()
    def decode(latents):
        return [wrong(2, decoder(latents))]

    with pytest.raises(CheckpointError, match=f'^out: {name} differs by'):
        compare_halves(autoencoder, encode, decode, 'out')
