"""Which samples a rank takes, a function of (seed, position) alone."""

from torch.utils.data import Sampler

from wfvae_toolkit.utils.errors import SettingError

from ..utils.seeding import mix_seed
from .base import SampleKey, evaluation_key
from .order import EpochOrder


class PositionSampler(Sampler):
    """Endless `SampleKey` of a rank, for training.

    Global positions count 0, 1, 2, ... over all epochs and ranks; a rank takes every
    ``world_size``-th. So B batches of b samples on each of w ranks are together the batch of b*w
    samples of one process, and one number, the samples consumed, says where a run stands.

    Args:
        length (int): size of the dataset.
        seed (int): of the order and of the samples' own seeds.
        shuffle (bool): another permutation each epoch; off, the dataset's order.
        rank, world_size (int): which share of the positions.
        order (callable): position -> index, a pure function; `EpochOrder` by default.
    """

    def __init__(self, length, seed=0, shuffle=True, rank=0, world_size=1, order=None):
        _check_share(length, rank, world_size)
        self.length = length
        self.seed = seed
        self.order = EpochOrder(length, (seed,), shuffle) if order is None else order
        self.rank = rank
        self.world_size = world_size
        self.start_position = 0

    def set_position(self, consumed):
        """Let the next iteration start after ``consumed`` samples, counted over all ranks."""
        if consumed < 0:
            raise SettingError(f'{consumed} samples consumed: use 0 or more')
        self.start_position = consumed

    def __iter__(self):
        position = self.start_position + self.rank
        while True:
            yield SampleKey(self.order(position), position, mix_seed('sample', self.seed, position))
            position += self.world_size


class SequentialSampler(Sampler):
    """Each index once over all ranks, without padding, as `SampleKey`: for evaluation."""

    def __init__(self, length, rank=0, world_size=1):
        _check_share(length, rank, world_size)
        self.indices = range(rank, length, world_size)

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        return map(evaluation_key, self.indices)


class BlockSampler(Sampler):
    """Batches of consecutive samples, every ``world_size``-th of them, as lists of `SampleKey`.

    A batch holds the same samples on any number of ranks: what a network makes of it is then equal to the bit.
    """

    def __init__(self, length, batch_size, rank=0, world_size=1):
        _check_share(length, rank, world_size)
        if batch_size < 1:
            raise SettingError(f'batch size {batch_size}: use at least 1')
        self.length = length
        self.batch_size = batch_size
        self.starts = range(rank * batch_size, length, world_size * batch_size)

    def __len__(self):
        return len(self.starts)

    def __iter__(self):
        for start in self.starts:
            yield [evaluation_key(index) for index in range(start, min(start + self.batch_size, self.length))]


def _check_share(length, rank, world_size):
    if length < 1:
        raise SettingError(f'{length} samples: there must be at least one')
    if not 0 <= rank < world_size:
        raise SettingError(f'rank {rank} of {world_size}: use 0 to world_size - 1')
