import pytest
import torch

from tests.training.helpers import PIXEL
from wfvae_toolkit.losses import Loss


class Probe(Loss):
    """Keeps the latents that the decoder saw; adds nothing."""

    def forward(self, step):
        self.noise = (step.latents - step.latent_dist.mean).detach() / step.latent_dist.std.detach()
        return step.latents.sum() * 0.0


def test_noise_belongs_to_the_sample(make_model, make_images):
    model = make_model(losses=dict(pixel=PIXEL, probe=dict(type=Probe)))
    probe = model.losses['probe']
    images = make_images(4)
    model.autoencoder_turn(images, sample_seeds=[5, 6, 7, 8])
    together = probe.noise
    assert len({row.sum().item() for row in together}) == 4
    for order in ([3], [2, 0], [1, 3, 2]):
        torch.manual_seed(len(order))  # torch's generator has no part in it
        model.autoencoder_turn(images[order], sample_seeds=[5 + i for i in order])
        torch.testing.assert_close(probe.noise, together[order], rtol=0, atol=1e-5)
    assert together.std().item() == pytest.approx(1, abs=0.1)


def test_without_seeds_noise_comes_from_torchs_generator(make_model, make_images):
    model = make_model(losses=dict(probe=dict(type=Probe)))
    noises = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model.autoencoder_turn(make_images())
        noises.append(model.losses['probe'].noise)
    assert torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])


def test_the_mean_has_no_noise(make_model, make_images):
    model = make_model(losses=dict(probe=dict(type=Probe)))
    model.autoencoder_turn(make_images(), sample_posterior=False)
    assert not model.losses['probe'].noise.any()


def test_the_discriminator_scores_the_posteriors_sample(make_model, make_images):
    model = make_model()
    seen = []
    model.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.discriminator_turn(make_images(), sample_seeds=[1, 2])
    model.autoencoder_turn(make_images(), sample_seeds=[1, 2])
    real, fake, reconstruction = seen
    assert torch.equal(real, make_images())
    torch.testing.assert_close(fake, reconstruction)


def test_the_discriminators_turn_draws_no_graph_of_the_autoencoder(make_model, make_images):
    model = make_model()
    seen = []
    model.autoencoder.decoder.conv_out.register_forward_hook(lambda *args: seen.append(args[2].requires_grad))
    model.discriminator_turn(make_images())
    assert seen == [False]
