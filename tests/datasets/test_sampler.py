
import pytest

from tests.helpers import take
from wfvae_toolkit.datasets import PositionSampler, SampleKey, SequentialSampler


def test_each_epoch_is_another_permutation():
    keys = take(PositionSampler(10, seed=3), 30)
    assert [key.position for key in keys] == list(range(30))
    epochs = [[key.index for key in keys[start:start + 10]] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert len({key.seed for key in keys}) == 30
    assert isinstance(keys[0], SampleKey)
    assert all(type(value) is int for value in keys[0])


def test_order_is_a_function_of_the_seed():
    assert take(PositionSampler(50, seed=3), 90) == take(PositionSampler(50, seed=3), 90)
    other = take(PositionSampler(50, seed=4), 90)
    assert [key.index for key in other] != [key.index for key in take(PositionSampler(50, seed=3), 90)]


def test_the_order_of_a_run_that_began_earlier_stays():
    assert [key.index for key in take(PositionSampler(8, seed=4), 10)] == [6, 5, 0, 1, 7, 4, 2, 3, 5, 1]
    assert take(PositionSampler(8, seed=4), 2)[1].seed == 1585951454


def test_without_shuffling():
    assert [key.index for key in take(PositionSampler(3, shuffle=False), 7)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize('world_size', [2, 3])
def test_ranks_together_are_one_process(world_size):
    batch = 4
    ranks = [take(PositionSampler(10, 5, rank=rank, world_size=world_size), 6 * batch) for rank in range(world_size)]
    one = take(PositionSampler(10, 5), 6 * batch * world_size)
    for number in range(6):
        union = [key for keys in ranks for key in keys[number * batch:(number + 1) * batch]]
        whole = one[number * batch * world_size:(number + 1) * batch * world_size]
        assert sorted(union, key=lambda key: key.position) == whole


@pytest.mark.parametrize('consumed', [0, 7, 10, 24])
def test_resuming_is_one_number_on_any_number_of_ranks(consumed):
    one = take(PositionSampler(10, 5), 60)
    union = []
    for rank in range(3):
        sampler = PositionSampler(10, 5, rank=rank, world_size=3)
        take(sampler, 4)  # what was drawn ahead does not count
        sampler.set_position(consumed)
        union += take(sampler, 8)
        assert take(sampler, 8) == union[-8:]
    assert sorted(union, key=lambda key: key.position) == one[consumed:consumed + 24]


@pytest.mark.parametrize(('length', 'world_size'), [(7, 1), (7, 2), (7, 3), (2, 4)])
def test_evaluation_sees_each_index_once(length, world_size):
    samplers = [SequentialSampler(length, rank, world_size) for rank in range(world_size)]
    keys = [key for sampler in samplers for key in sampler]
    assert sorted(key.index for key in keys) == list(range(length))
    assert all(key.position == key.index for key in keys)
    assert sorted(keys) == list(SequentialSampler(length))
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]
    assert len({key.seed for key in keys}) == length


def test_arguments_are_validated():
    for sampler in (PositionSampler, SequentialSampler):
        with pytest.raises(ValueError, match='at least one'):
            sampler(0)
        with pytest.raises(ValueError, match='rank 2 of 2'):
            sampler(5, rank=2, world_size=2)
    with pytest.raises(ValueError, match='0 or more'):
        PositionSampler(5).set_position(-1)
