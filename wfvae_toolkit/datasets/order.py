"""Position in the global order of samples -> index in the dataset, a pure function of (seed, position)."""

from fractions import Fraction
from itertools import accumulate
from zlib import crc32

import numpy as np

from ..utils.seeding import mix_seed

BLOCK = 1024  # positions; each block holds every source by its share


class EpochOrder:
    """Every index once per epoch, shuffled anew in each epoch.

    Args:
        length (int): number of samples in the dataset.
        words (sequence of int): the seed, and further numbers that distinguish this order from others.
        shuffle (bool): False keeps the order of the dataset.
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


class WindowOrder:
    """Every index once per epoch, shuffled among a few parts of the dataset at a time.

    Each epoch shuffles the parts, takes ``window`` of them after another, and shuffles the samples of those. Slow
    storage is thus read in long stretches: each part is read once an epoch. Two samples that follow each other come
    from one part with a probability of about 1 / ``window``, where `EpochOrder` has 1 / parts.

    Args:
        lengths (sequence of int): samples of each part, in the order of the dataset.
        words (sequence of int): see `EpochOrder`.
        window (int): parts that are mixed.
    """

    def __init__(self, lengths, words, window):
        self.words = words
        self.window = window
        self._lengths = np.asarray(lengths)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._epoch = self._window = None

    def __call__(self, position):
        epoch, offset = divmod(position, int(self._lengths.sum()))
        if epoch != self._epoch:
            rng = np.random.default_rng(mix_seed('order', *self.words, epoch))
            self._epoch, self._parts, self._window = epoch, rng.permutation(len(self._lengths)), None
            self._ends = np.cumsum(self._lengths[self._parts])  # of the parts, in the order of this epoch
        window = int(np.searchsorted(self._ends, offset, 'right')) // self.window
        if window != self._window:
            self._window, self._indices = window, self._shuffled(window)
            self._first = int(self._ends[window * self.window - 1]) if window else 0
        return int(self._indices[offset - self._first])

    def parts_of(self, position):
        """Numbers of the parts among which the sample at a position is drawn."""
        self(position)
        return self._parts[self._window * self.window:(self._window + 1) * self.window].tolist()

    def _shuffled(self, window):
        parts = self._parts[window * self.window:(window + 1) * self.window]
        indices = np.concatenate([self._starts[part] + np.arange(self._lengths[part]) for part in parts])
        return np.random.default_rng(mix_seed('order', *self.words, self._epoch, window)).permutation(indices)


class MixedOrder:
    """Sources drawn by weight; each has an `EpochOrder` of its own, independent of the others.

    Among the first n * `BLOCK` positions, each source has its share to within the number of sources. Inside a block the
    sources come in random order: a rank takes every k-th position, and must not get one source alone. A closed form
    gives how often a source came before a block, so that any position is found without the earlier ones.

    Args:
        lengths (dict[str, int]): sizes of the sources by name, in the order in which they are concatenated.
        weights (dict[str, float]): positive; only their ratios count.
        seed (int): decides the order of the sources and of their samples.
        shuffle (bool): False keeps the order inside each source; the sources still alternate.
        orders (dict[str, callable]): what takes the place of `EpochOrder` for a source.
    """

    def __init__(self, lengths, weights, seed, shuffle=True, orders=None):
        self.seed = seed
        # Seeded by the name: adding or removing other sources does not change the order of this one.
        self._orders = [(orders or {}).get(name, EpochOrder)(length, (seed, crc32(name.encode())), shuffle)
                        for name, length in lengths.items()]
        self._starts = [0, *accumulate(lengths.values())]
        sums = list(accumulate(Fraction(weights[name]) for name in lengths))
        # The share of the sources before the last, among those up to it; from the last source to the second.
        self._shares = [before / up_to for before, up_to in zip(sums, sums[1:], strict=False)][::-1]
        self._block = None

    def counts(self, positions):
        """How often each source comes among the first ``positions``, a multiple of `BLOCK`."""
        counts = []
        for share in self._shares:  # fractions are exact: floats would lose or repeat a sample somewhere
            before = positions * share.numerator // share.denominator
            counts.append(positions - before)
            positions = before
        return np.array([positions, *reversed(counts)])

    def __call__(self, position):
        source, visit = self.draw(position)
        return self._starts[source] + self._orders[source](visit)

    def draw(self, position):
        """Number of the source at a position, and how often that source came before."""
        block, offset = divmod(position, BLOCK)
        if block != self._block:
            self._block, self._sources, self._visits = block, *self._arrange(block)
        return int(self._sources[offset]), int(self._visits[offset])

    def _arrange(self, block):
        """For each position of a block: its source, and how often that source came before."""
        first, end = (self.counts(number * BLOCK) for number in (block, block + 1))
        sources = np.repeat(np.arange(len(first)), end - first)
        sources = np.random.default_rng(mix_seed('mixture', self.seed, block)).permutation(sources)
        visits = np.empty_like(sources)
        for source, count in enumerate(first):
            here = sources == source
            visits[here] = count + np.arange(here.sum())
        return sources, visits


class BucketOrder:
    """Batches of one bucket each; buckets come as often as their samples do, at random.

    Positions 0, 1, 2, ... are cut into batches. Each batch takes the next samples of its bucket. Every bucket has its
    own `EpochOrder`, or a `MixedOrder` of its sources. A batch may end one epoch of its bucket and begin the next.

    Args:
        lengths (dict[str, dict[str, int]]): samples of each bucket by source, in the order of the dataset.
        weights (dict[str, float]): of the sources.
        seed (int): decides everything.
        batch (int): samples that must have one size.
        shuffle (bool): False keeps the order inside each bucket and source.
    """

    def __init__(self, lengths, weights, seed, batch, shuffle=True):
        self.batch = batch
        totals = {source: sum(counts[source] for counts in lengths.values()) for source in weights}
        # A source is drawn by its weight over all buckets together.
        shares = {bucket: {source: Fraction(weights[source]) * count / totals[source]
                           for source, count in counts.items() if count} for bucket, counts in lengths.items()}
        self._buckets = MixedOrder({bucket: sum(counts.values()) for bucket, counts in lengths.items()},
                                   {bucket: sum(own.values()) for bucket, own in shares.items()}, seed)
        self._orders = [MixedOrder({source: lengths[bucket][source] for source in own}, own,
                                   mix_seed('mixture', seed, crc32(bucket.encode())), shuffle)
                        for bucket, own in shares.items()]
        self._starts = [0, *accumulate(sum(counts.values()) for counts in lengths.values())]

    def __call__(self, position):
        number, place = divmod(position, self.batch)
        bucket, visit = self._buckets.draw(number)
        return self._starts[bucket] + self._orders[bucket](visit * self.batch + place)
