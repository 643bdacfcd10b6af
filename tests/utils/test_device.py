import os
from pathlib import Path

import pytest
import torch

from wfvae_toolkit.utils.device import default_device, find_device, peak_memory_bytes
from wfvae_toolkit.utils.errors import SettingError


def test_without_a_name_it_is_the_default():
    assert find_device() == default_device()
    assert find_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['cuda:99', 'no such device', 3.5])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(SettingError, match=r'^device .*; here there is cpu'):
        find_device(name)


def test_without_a_gpu_the_peak_is_of_the_process_and_counts_what_was_freed(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    torch.ones(2**26)  # 256 MiB, freed at once
    resident = int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    assert peak_memory_bytes() > resident + 2**27
