"""Neighbours of latents, what lies between two, and the distance of what is decoded there."""

import math

import pytest
import torch

from tests.helpers import TinyFeatures, build_small
from wfvae_toolkit.evaluation import ReconstructionEvaluator
from wfvae_toolkit.evaluation.interpolated import find_neighbours, interpolate
from wfvae_toolkit.evaluation.set_statistics import Moments, frechet_distance
from wfvae_toolkit.utils.errors import SettingError

TINY = 'tests.helpers.TinyFeatures'


# neighbours

def test_the_nearest_other_row_is_found_in_chunks(monkeypatch):
    from wfvae_toolkit.evaluation import interpolated

    latents = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))
    distances = torch.cdist(latents, latents).fill_diagonal_(math.inf)
    angles = torch.nn.functional.cosine_similarity(latents[:, None], latents[None], dim=2).fill_diagonal_(-math.inf)
    monkeypatch.setattr(interpolated, 'CHUNK', 7)
    assert torch.equal(find_neighbours(latents, 1, by_angle=False), distances.argmin(1))
    assert torch.equal(find_neighbours(latents, 1, by_angle=True), angles.argmax(1))
    assert not torch.equal(distances.argmin(1), angles.argmax(1))


def test_one_of_several_is_drawn_by_its_mean_squared_difference():
    """Two candidates at squared differences of 1 and 2: the nearer one is drawn with 1 / (1 + exp(-1))."""
    latents = torch.tensor([[0.0], [1.0], [-math.sqrt(2)], [9.0]])
    draws = torch.cat([find_neighbours(latents, 2, False, torch.Generator().manual_seed(seed))[:1]
                       for seed in range(600)])
    assert set(draws.tolist()) == {1, 2}
    assert (draws == 1).double().mean().item() == pytest.approx(1 / (1 + math.exp(-1)), abs=0.06)


# between two latents

def test_the_arc_keeps_the_length_and_halves_the_angle():
    one, other = torch.randn(2, 5, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = other * (one.flatten(1).norm(dim=1) / other.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    middle = interpolate(one, other, 0.5, spherical=True)
    length = [latents.flatten(1).norm(dim=1) for latents in (one, middle)]
    assert torch.allclose(*length)
    cosines = [torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)) for a, b in (
        (one, middle), (middle, other), (one, other))]
    assert torch.allclose(cosines[0], cosines[1])
    assert torch.allclose(2 * cosines[0].acos(), cosines[2].acos())


@pytest.mark.parametrize('spherical', [True, False])
def test_the_ends_are_the_latents_and_equal_ones_stay(spherical):
    one, other = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(interpolate(one, other, 0.0, spherical), one, atol=1e-6)
    assert torch.allclose(interpolate(one, other, 1.0, spherical), other, atol=1e-6)
    assert torch.allclose(interpolate(one, one, 0.5, spherical), one, atol=1e-6)
    assert torch.allclose(interpolate(one, 3 * one, 0.5, spherical), 2 * one, atol=1e-5)


# the metric

@pytest.fixture(scope='module')
def images():
    return torch.rand(13, 3, 18, 22, generator=torch.Generator().manual_seed(1)) * 2 - 1


def score(images, sizes=None, **settings):
    row = dict(type='InterpolatedFrechetDistance', features=TINY, batch_size=4, **settings)
    evaluator = ReconstructionEvaluator({'between': row, 'fd': dict(type='FrechetDistance', features=TINY)})
    evaluator.begin('made up')
    autoencoder = build_small().eval()
    with torch.no_grad():
        for start in range(0, len(images), 5):
            target = images[start:start + 5]
            padded = torch.nn.functional.pad(target, (0, 2, 0, 2))
            dist = autoencoder.encode(padded).latent_dist
            made = autoencoder.decode(dist.mode()).sample[..., :18, :22]
            indices = list(range(start, start + len(target)))
            evaluator.process('', indices, list(map(str, indices)), target, made, dist.mode(), dist, autoencoder)
    return evaluator.summarize()


def test_without_a_share_of_the_neighbour_it_is_the_distance_of_the_reconstructions(images):
    metrics = score(images, alpha=0.0).metrics
    assert metrics['between']['mean'] == pytest.approx(metrics['fd']['mean'], rel=1e-6)


def test_it_is_the_distance_of_what_is_decoded_between_nearest_latents(images):
    summary = score(images, interpolation='linear', candidates=1)
    autoencoder = build_small().eval()
    with torch.no_grad():
        latents = autoencoder.encode(torch.nn.functional.pad(images, (0, 2, 0, 2))).latent_dist.mode()
        flat = latents.flatten(1)
        others = torch.cdist(flat, flat).fill_diagonal_(math.inf).argmin(1)
        made = autoencoder.decode((latents + latents[others]) / 2).sample[..., :18, :22]
    features = [Moments.of_rows(TinyFeatures()((image.clamp(-1, 1) * 127.5 + 127.5).round().byte()).float())
                for image in (images, made)]
    assert summary.metrics['between']['mean'] == pytest.approx(frechet_distance(*features), rel=1e-4)
    assert 'the nearest of the other scored images; linear, alpha 0.5' in summary.protocol['between']


def test_it_states_how_few_candidates_there_are(images):
    notes = score(images[:4], candidates=9).metrics['between']['notes']
    assert 'all 3 other images are candidates: fewer than 9' in notes
    assert score(images[:1]).metrics['between']['nan'] == 1


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(interpolation='cubic'), "interpolation='cubic': use one of slerp, linear"),
    (dict(candidates=0), 'candidates=0'), (dict(alpha=1.5), 'alpha=1.5')])
def test_a_setting_that_cannot_be_is_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        ReconstructionEvaluator({'x': dict(type='InterpolatedFrechetDistance', features=TINY, **settings)})


def test_images_of_two_sizes_and_folders_alone_are_refused(images):
    evaluator = ReconstructionEvaluator({'x': dict(type='InterpolatedFrechetDistance', features=TINY)})
    evaluator.begin('made up')
    evaluator.process('', [0], ['a'], images[:1], images[:1], torch.zeros(1, 3, 4, 4))
    with pytest.raises(SettingError, match='this metric needs images of one size; --resolution or --crop'):
        evaluator.process('', [1], ['b'], images[1:2], images[1:2], torch.zeros(1, 3, 4, 5))
    with pytest.raises(SettingError, match='there is no latents here'):
        evaluator.process('', [1], ['b'], images[1:2], images[1:2])
    with pytest.raises(SettingError, match="'iFID': FID is the distance of inception features"):
        ReconstructionEvaluator({'iFID': dict(type='InterpolatedFrechetDistance', features=TINY)})
