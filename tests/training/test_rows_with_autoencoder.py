"""Loss rows that run the autoencoder once more."""

from pathlib import Path

import pytest
import torch

PIXEL = dict(type='L1Loss')


@pytest.fixture
def again(monkeypatch):
    """Config of a row that decodes the latents mirrored."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / 'data/plugins')
    return dict(type='run_probes.MirroredLoss', weight=0.5)


def test_gradients_are_those_of_the_sum_of_both_ways_through_the_network(make_model, make_images, again):
    model = make_model(losses=dict(pixel=PIXEL, again=again)).double()
    images = make_images().double()
    model.autoencoder_turn(images, sample_posterior=False)[0].backward()
    ours = {name: p.grad.clone() for name, p in model.autoencoder.named_parameters()}
    model.zero_grad()

    latents = model.autoencoder.encode(images).latent_dist.mode()
    plain = (model.autoencoder.decode(latents).sample - images).abs().sum()
    mirrored = (model.autoencoder.decode(latents.flip(-1)).sample - images.flip(-1)).abs().sum()
    ((plain + 0.5 * mirrored) / len(images)).backward()
    for name, parameter in model.autoencoder.named_parameters():
        assert torch.allclose(ours[name], parameter.grad, rtol=1e-9, atol=1e-9), name


def test_other_rows_and_frozen_weights_stay_as_they_are(make_model, make_images, again):
    model = make_model(losses=dict(pixel=PIXEL, again=again), freeze=['autoencoder.decoder.*'])
    model.autoencoder_turn(make_images())[0].backward()
    assert all(p.grad is None for p in model.autoencoder.decoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.autoencoder.encoder.parameters())


def test_rows_see_the_seeds_of_their_images(make_model, make_images, make_batch, make_optimizers, again):
    model = make_model(losses=dict(pixel=PIXEL, again=again))
    model.train_step([make_batch(make_images(), first_seed=7)], make_optimizers(model))
    assert model.losses['again'].seeds == (7, 8)
    model.autoencoder_turn(make_images())
    assert model.losses['again'].seeds is None
