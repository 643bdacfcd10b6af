import itertools
import random

import numpy as np
import pytest
import torch

from wfvae_toolkit.utils.seeding import mix_seed, seeded, standard_normal

PINNED = [457190280, 3296913308, 693737029]
DOMAINS = ['order', 'sample', 'posterior', 'iteration', 'initial weights']


def test_seeds_are_distinct_32_bit_numbers():
    words = [(), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (1, 1), (2**32,), (2**40 + 1,), (1, 0, 0)]
    seeds = [mix_seed(domain, *numbers) for domain, numbers in itertools.product(DOMAINS, words)]
    assert len(set(seeds)) == len(seeds)
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)


def test_seeds_never_change():
    # A run that is resumed by a later version draws what it would have drawn.
    assert [mix_seed('posterior', 0), mix_seed('order', 1, 2), mix_seed('iteration', 3, 2**40, 1)] == PINNED


def test_consecutive_seeds_are_unrelated():
    draws = torch.stack([torch.randn(500, generator=torch.Generator().manual_seed(mix_seed('sample', 7, i)))
                         for i in range(40)])
    correlation = torch.corrcoef(draws) - torch.eye(40)
    assert correlation.abs().max() < 5 / 500**0.5


@pytest.mark.parametrize('call', [lambda: mix_seed('sample', -1), lambda: mix_seed('noise', 1)])
def test_negative_words_and_unknown_domains_are_refused(call):
    with pytest.raises((ValueError, KeyError)):
        call()


def draw():
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002


def test_seeded_is_repeatable_and_leaves_no_trace():
    with seeded(1):
        inside = draw()
    with seeded(2):
        other = draw()
    with seeded(0):
        first = draw()
        with seeded(1):
            assert draw() == inside
        second = draw()
    with seeded(0):
        assert (draw(), draw()) == (first, second)
    assert not set(inside) & set(other)


def test_seeded_restores_after_an_error():
    with seeded(0):
        expected = draw()
    with seeded(0):
        with pytest.raises(RuntimeError), seeded(1):
            raise RuntimeError
        assert draw() == expected


@pytest.mark.parametrize('shape', [(3,), (8, 4, 4), (1, 5, 7)])
def test_noise_of_a_row_depends_on_its_seed_alone(shape):
    together = standard_normal(shape, [3, 1, 2, 3])
    assert together.shape == (4, *shape)
    assert together.dtype == torch.float32
    for row, seed in zip(together, [3, 1, 2, 3], strict=True):
        assert torch.equal(row, standard_normal(shape, [seed])[0])
    assert torch.equal(together[0], together[3])
    assert not torch.equal(together[0], together[1])


def test_noise_is_standard_normal_and_draws_nothing_global():
    before = torch.get_rng_state()
    noise = standard_normal((100, 100), range(10))
    assert torch.equal(torch.get_rng_state(), before)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
