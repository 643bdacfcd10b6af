import psutil
import pytest
import torch

from wfvae_toolkit.utils.device import (
    as_float64,
    default_device,
    device_name,
    find_device,
    peak_memory_bytes,
    pins_memory,
    to_device,
    using_device,
    widest_float,
)
from wfvae_toolkit.utils.errors import SettingError


def test_without_a_name_it_is_the_default():
    assert find_device() == default_device()
    assert find_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['cuda:99', 'no such device', 3.5])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(SettingError, match=r'^device .*; here there is cpu'):
        find_device(name)


def test_inside_a_choice_the_chosen_device_is_the_default():
    before = default_device()
    with using_device('cpu'):
        assert default_device() == torch.device('cpu')
        assert device_name() is None
        with using_device():
            assert default_device() == torch.device('cpu')
    assert default_device() == before


def test_a_choice_that_is_not_there_is_refused():
    with pytest.raises(SettingError, match='here there is cpu'), using_device('cuda:99'):
        pass


def test_of_a_cpu_the_peak_is_that_of_the_process_and_counts_what_was_freed():
    with using_device('cpu'):
        torch.ones(2**26)  # 256 MiB, freed at once
        assert peak_memory_bytes() > psutil.Process().memory_info().rss + 2**27


def test_a_cpu_has_float64_and_copies_nothing():
    cpu, numbers = torch.device('cpu'), torch.ones(2)
    assert as_float64(numbers).dtype == widest_float(cpu) == torch.float64
    assert to_device(numbers, cpu) is numbers
    assert not pins_memory(cpu)
