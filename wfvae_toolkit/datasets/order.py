"""Position in the global order of samples -> index in the dataset, a pure function of (seed, position)."""

from fractions import Fraction
from itertools import accumulate
from zlib import crc32

import numpy as np

from ..utils.seeding import mix_seed

BLOCK = 1024  # positions in which a mixture holds its shares


class EpochOrder:
    """Every index once an epoch, in another order each.

    Args:
        length (int): size of the dataset.
        words (sequence of int): the seed, and what else tells this order from others.
        shuffle (bool): off, the dataset's order.
    """

    def __init__(self, length, words, shuffle=True):
        self.length = length
        self.words = words
        self.shuffle = shuffle
        self._epoch, self._indices = None, range(length)

    def __call__(self, position):
        epoch, offset = divmod(position, self.length)
        if self.shuffle and epoch != self._epoch:
            rng = np.random.default_rng(mix_seed('order', *self.words, epoch))
            self._epoch, self._indices = epoch, rng.permutation(self.length)
        return int(self._indices[offset])


class MixedOrder:
    """Sources by weight; each is gone through by an `EpochOrder` of its own, whatever the others do.

    Of the first n * `BLOCK` positions a source has its share, to within the number of sources. Inside of a block the
    sources come in a random order, so that no rank, which takes every k-th position, meets one source alone. How often
    a source came before a block has a closed form: any position is reached without those before it.

    Args:
        lengths (dict[str, int]): sizes of the sources by name, in the order in which they are concatenated.
        weights (dict[str, float]): positive; only their ratios count.
        seed (int): of everything.
        shuffle (bool): off, each source keeps its own order; they still alternate.
    """

    def __init__(self, lengths, weights, seed, shuffle=True):
        self.seed = seed
        # By name: what happens to other sources leaves the order of this one.
        self._orders = [EpochOrder(length, (seed, crc32(name.encode())), shuffle) for name, length in lengths.items()]
        self._starts = [0, *accumulate(lengths.values())]
        sums = list(accumulate(Fraction(weights[name]) for name in lengths))
        # The share of the sources before the last, among those up to it; from the last source to the second.
        self._shares = [before / up_to for before, up_to in zip(sums, sums[1:], strict=False)][::-1]
        self._block = None

    def counts(self, positions):
        """How often each source comes among the first ``positions``, where these are whole blocks."""
        counts = []
        for share in self._shares:  # exact: floats would lose or double a sample somewhere
            before = positions * share.numerator // share.denominator
            counts.append(positions - before)
            positions = before
        return np.array([positions, *reversed(counts)])

    def __call__(self, position):
        block, offset = divmod(position, BLOCK)
        if block != self._block:
            self._block, self._sources, self._visits = block, *self._arrange(block)
        source = self._sources[offset]
        return self._starts[source] + self._orders[source](int(self._visits[offset]))

    def _arrange(self, block):
        """Source at each position of a block, and how often it came before."""
        first, end = (self.counts(number * BLOCK) for number in (block, block + 1))
        sources = np.repeat(np.arange(len(first)), end - first)
        sources = np.random.default_rng(mix_seed('mixture', self.seed, block)).permutation(sources)
        visits = np.empty_like(sources)
        for source, count in enumerate(first):
            here = sources == source
            visits[here] = count + np.arange(here.sum())
        return sources, visits
