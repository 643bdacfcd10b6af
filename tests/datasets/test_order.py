import itertools
from collections import Counter

import numpy as np
import pytest

from wfvae_toolkit.datasets import BucketOrder, EpochOrder, MixedOrder, PositionSampler, WindowOrder
from wfvae_toolkit.datasets.order import BLOCK

LENGTHS = {'a': 50, 'b': 7, 'c': 3000, 'd': 1}
WEIGHTS = {'a': 0.3, 'b': 2, 'c': 1e-3, 'd': 1 / 3}


def split(indices, lengths=LENGTHS):
    """Indices in the concatenation -> indices in each source, in the order in which they came."""
    starts = np.cumsum([0, *lengths.values()])
    found = {name: [] for name in lengths}
    for index in indices:
        number = int(np.searchsorted(starts, index, side='right')) - 1
        found[list(lengths)[number]].append(index - starts[number])
    return found


def test_shares_are_those_of_the_weights():
    order = MixedOrder(LENGTHS, WEIGHTS, seed=0)
    total = sum(WEIGHTS.values())
    for blocks in (1, 2, 10, 999, 10**7):
        counts = order.counts(blocks * BLOCK)
        assert counts.sum() == blocks * BLOCK
        for count, weight in zip(counts, WEIGHTS.values(), strict=True):
            assert abs(count - blocks * BLOCK * weight / total) < len(WEIGHTS)
    drawn = split(map(order, range(3 * BLOCK)))
    assert [len(indices) for indices in drawn.values()] == order.counts(3 * BLOCK).tolist()
    counts = np.array([order.counts(number * BLOCK) for number in range(2000)])
    assert (np.diff(counts, axis=0) >= 0).all()


def test_each_source_is_gone_through_as_if_it_were_alone():
    order = MixedOrder(LENGTHS, WEIGHTS, seed=5)
    drawn = split(map(order, range(4 * BLOCK)))
    for name, indices in drawn.items():
        for start in range(0, len(indices) - LENGTHS[name] + 1, LENGTHS[name]):
            epoch = indices[start:start + LENGTHS[name]]
            assert sorted(epoch) == list(range(LENGTHS[name]))
    assert drawn['b'][:7] != drawn['b'][7:14]
    kept = {name: LENGTHS[name] for name in ('b', 'd')}
    other = split(map(MixedOrder(kept, {'b': 1, 'd': 5.0}, seed=5), range(BLOCK)), kept)
    count = min(len(other['b']), len(drawn['b']))
    assert other['b'][:count] == drawn['b'][:count]


def test_any_position_is_reached_alone():
    whole = [MixedOrder(LENGTHS, WEIGHTS, seed=3)(position) for position in range(2 * BLOCK)]
    order = MixedOrder(LENGTHS, WEIGHTS, seed=3)
    for position in np.random.default_rng(0).permutation(2 * BLOCK)[:300].tolist():
        assert order(position) == whole[position]
    assert whole != [MixedOrder(LENGTHS, WEIGHTS, seed=4)(position) for position in range(2 * BLOCK)]
    far = 10**13 + 7
    assert MixedOrder(LENGTHS, WEIGHTS, seed=3)(far) == MixedOrder(LENGTHS, WEIGHTS, seed=3)(far)


def test_the_order_of_a_run_that_began_earlier_stays():
    order = MixedOrder({'a': 4, 'b': 4}, {'a': 1, 'b': 2}, seed=4)
    assert [order(position) for position in range(12)] == [6, 1, 7, 5, 0, 4, 5, 3, 7, 6, 2, 4]


def test_one_source_keeps_all():
    assert sorted(MixedOrder({'a': 9}, {'a': 3}, seed=0)(position) for position in range(9)) == list(range(9))


def test_without_shuffling_each_source_keeps_its_order():
    drawn = split(map(MixedOrder(LENGTHS, WEIGHTS, seed=0, shuffle=False), range(BLOCK)))
    for name, indices in drawn.items():
        assert indices == [number % LENGTHS[name] for number in range(len(indices))]


def test_no_rank_meets_one_source_alone():
    order = MixedOrder({'a': 500, 'b': 500}, {'a': 1, 'b': 1}, seed=0)
    for rank in range(2):
        counts = Counter(order(position) < 500 for position in range(rank, BLOCK, 2))
        assert 200 < counts[True] < 312


@pytest.mark.parametrize('world_size', [2, 3])
@pytest.mark.parametrize('consumed', [0, 1000])
def test_ranks_and_resuming(world_size, consumed):
    def keys(count, **share):
        order = MixedOrder(LENGTHS, WEIGHTS, seed=6)
        sampler = PositionSampler(sum(LENGTHS.values()), 6, order=order, **share)
        sampler.set_position(consumed if share else 0)
        return list(itertools.islice(sampler, count))

    union = [key for rank in range(world_size) for key in keys(60, rank=rank, world_size=world_size)]
    assert sorted(union, key=lambda key: key.position) == keys(consumed + 60 * world_size)[consumed:]
    assert all(type(value) is int for value in union[0])


def test_an_epoch_order_is_the_samplers():
    order = EpochOrder(10, (3,))
    assert [key.index for key in itertools.islice(PositionSampler(10, seed=3), 25)] == list(map(order, range(25)))
    assert [EpochOrder(10, (3,))(position) for position in (24, 3, 17)] == [order(24), order(3), order(17)]


PARTS = [5, 0, 3, 8, 1, 4, 6]


def parts_of(indices):
    return np.searchsorted(np.cumsum(PARTS), indices, 'right')


@pytest.mark.parametrize('window', [1, 2, 3, 7, 50])
def test_a_window_reads_each_part_once_an_epoch_in_one_stretch(window):
    length = sum(PARTS)
    order = WindowOrder(PARTS, (3,), window)
    epochs = [list(map(order, range(start, start + length))) for start in range(0, 4 * length, length)]
    for indices in epochs:
        assert sorted(indices) == list(range(length))
        parts = parts_of(indices)
        last = np.array([np.flatnonzero(parts == part).max(initial=-1) for part in range(len(PARTS))])
        first = np.array([np.flatnonzero(parts == part).min(initial=length) for part in range(len(PARTS))])
        for place in range(length):  # parts that have begun and not ended
            assert ((first <= place) & (place <= last)).sum() <= window
    assert epochs[0] != epochs[1]
    if window == 50:
        assert len(set(parts_of(epochs[0][:8]))) > 3


def test_any_position_of_a_window_is_found_without_those_before():
    order = WindowOrder(PARTS, (3,), 2)
    whole = list(map(order, range(200)))
    for position in (199, 3, 77, 0, 120):
        assert WindowOrder(PARTS, (3,), 2)(position) == whole[position]
        assert parts_of(whole[position]) in WindowOrder(PARTS, (3,), 2).parts_of(position)
    assert [WindowOrder(PARTS, (4,), 2)(position) for position in range(27)] != whole[:27]


def test_neighbours_share_a_part_about_as_often_as_stated():
    """With a probability of about 1 / window, which docs/data.md says."""
    lengths = [50] * 40
    for window in (1, 2, 5, 10):
        order = WindowOrder(lengths, (0,), window)
        parts = np.array(list(map(order, range(sum(lengths))))) // 50
        assert (np.diff(parts) == 0).mean() == pytest.approx(1 / window, abs=0.04)


COUNTS = {'32x32': {'a': 20, 'b': 0}, '40x24': {'a': 3, 'b': 5}, '24x40': {'a': 7, 'b': 40}}


def test_a_batch_is_of_one_bucket_and_any_position_is_found_alone():
    order = BucketOrder(COUNTS, {'a': 1, 'b': 1}, 5, 6)
    starts = np.cumsum([0, *(sum(counts.values()) for counts in COUNTS.values())])
    whole = [order(position) for position in range(6 * 300)]
    buckets = np.searchsorted(starts, whole, 'right').reshape(-1, 6)
    assert (buckets == buckets[:, :1]).all()
    assert set(buckets[:, 0]) == {1, 2, 3}
    for position in (1799, 4, 1000):
        assert BucketOrder(COUNTS, {'a': 1, 'b': 1}, 5, 6)(position) == whole[position]
    assert [BucketOrder(COUNTS, {'a': 1, 'b': 1}, 6, 6)(position) for position in range(60)] != whole[:60]


def test_sources_of_buckets_are_drawn_by_their_weights():
    order = BucketOrder(COUNTS, {'a': 3, 'b': 1}, 0, 4)
    indices = np.array([order(position) for position in range(4 * BLOCK)])
    of_a = (indices < 23) | ((indices >= 28) & (indices < 35))  # 20 and 3 of the first two buckets, 7 of the third
    assert of_a.mean() == pytest.approx(0.75, abs=0.01)
    drawn = Counter(indices.tolist())
    for first, end in ((0, 20), (20, 23), (23, 28), (28, 35), (35, 75)):  # a source of a bucket in turn
        counts = [drawn[index] for index in range(first, end)]
        assert max(counts) - min(counts) <= 1


def test_an_update_begins_where_a_batch_does():
    sampler = PositionSampler(10, batch=6)
    assert [sampler.aligned(position) for position in (0, 1, 6, 7, 12)] == [0, 6, 6, 12, 12]
    assert PositionSampler(10).aligned(7) == 7
