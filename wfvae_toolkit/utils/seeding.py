"""Randomness as a function of its purpose and position; never of rank, worker or earlier draws."""

import contextlib
import random

import numpy as np

# torch's CPU generator reads only the low 32 bits of a seed: mix all words into 32 bits first.
_DOMAINS = {'order': 1, 'sample': 2, 'posterior': 3, 'iteration': 4, 'initial weights': 5, 'mixture': 6,
            'cached latent': 7, 'loss': 8, 'evaluation': 9, 'made-up picture': 10,
            'latent transform': 11, 'augmentation': 12}


def mix_seed(domain, *words):
    """(purpose, non-negative integers) -> 32-bit seed; a different purpose or integer gives an unrelated seed."""
    return int(np.random.SeedSequence((_DOMAINS[domain], len(words), *words)).generate_state(1)[0])


@contextlib.contextmanager
def seeded(seed):
    """Seed torch's CPU generator, numpy and random inside the block; afterwards restore their states."""
    import torch

    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def drawn_seeds(count):
    """``count`` seeds from torch's CPU generator, for images that come without any."""
    import torch

    return torch.randint(2**31, (count,)).tolist()


def standard_normal(shape, seeds):
    """(len(seeds), *shape) float32 on the CPU; row i depends on ``seeds[i]`` alone.

    Each row has its own draw: one draw for the whole batch gives the same numbers only for some sizes.
    """
    import torch

    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)
