"""The samples of each rank, as a function of (seed, position) alone."""

from torch.utils.data import Sampler

from wfvae_toolkit.utils.errors import SettingError

from ..utils.seeding import mix_seed
from .base import SampleKey, evaluation_key
from .order import EpochOrder


class PositionSampler(Sampler):
    """Yields `SampleKey` of one rank without end, for training.

    Global positions count 0, 1, 2, ... over all epochs and ranks; a rank takes every ``world_size``-th. The batches of
    b samples on w ranks are therefore together one batch of b*w samples on one process. The number of consumed samples
    says where a run stands.

    Args:
        length (int): number of samples in the dataset.
        seed (int): decides the order, and the seed of each sample.
        shuffle (bool): a new permutation in each epoch; False keeps the order of the dataset.
        rank, world_size (int): this process, and the number of processes that share the positions.
        order (callable): position -> index, a pure function; `EpochOrder` by default.
        batch (int): an update begins at a multiple of so many positions, see `BucketOrder`.
    """

    def __init__(self, length, seed=0, shuffle=True, rank=0, world_size=1, order=None, batch=1):
        _check_share(length, rank, world_size)
        self.length = length
        self.seed = seed
        self.order = EpochOrder(length, (seed,), shuffle) if order is None else order
        self.rank = rank
        self.world_size = world_size
        self.batch = batch
        self.start_position = 0

    def aligned(self, consumed):
        """The first position from ``consumed`` on at which an update may begin."""
        return -(-consumed // self.batch) * self.batch

    def set_position(self, consumed):
        """Start the next iteration after ``consumed`` samples, counted over all ranks."""
        if consumed < 0:
            raise SettingError(f'{consumed} samples consumed: use 0 or more')
        self.start_position = consumed

    def __iter__(self):
        position = self.start_position + self.rank
        while True:
            yield SampleKey(self.order(position), position, mix_seed('sample', self.seed, position))
            position += self.world_size


class SequentialSampler(Sampler):
    """Yields `SampleKey` for evaluation: the ranks together give each index once, without padding."""

    def __init__(self, length, rank=0, world_size=1):
        _check_share(length, rank, world_size)
        self.indices = range(rank, length, world_size)

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        return map(evaluation_key, self.indices)


class BlockSampler(Sampler):
    """Yields batches of consecutive samples as lists of `SampleKey`; a rank takes every ``world_size``-th batch.

    A batch holds the same samples on any number of ranks. The output of a network for it is then equal bit for bit.
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
