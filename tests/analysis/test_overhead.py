"""What the framework costs, counted; seconds are for the tool."""

import math
import re
from pathlib import Path

import pytest

from wfvae_toolkit.analysis.overhead import Overhead, format_overhead, measure_overhead
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import SettingError

DATA = Path(__file__).resolve().parents[1] / 'data'


@pytest.fixture
def config(photos):
    """The small config, a log row every ten updates."""
    return load_config(DATA / 'configs/tiny.py', {
        'train_dataloader.dataset.data_root': str(photos / 'train'), 'default_hooks.logger.interval': 10,
        'train_dataloader.batch_size': 1})


@pytest.mark.parametrize('start', [0, 1_000_000])
def test_nothing_grows_with_iterations(config, monkeypatch, start):
    monkeypatch.syspath_prepend(DATA / 'plugins')
    from run_probes import SizesAt

    # At one place between two rows of the log, whose sums are held in between.
    config.custom_hooks = [dict(type='run_probes.SizesAt', iterations=[start + 13, start + 33, start + 53])]
    config.experiment_name = f'sizes_from_{start}'
    overhead = measure_overhead(config, start, rounds=1)
    first, second, third = SizesAt.seen
    assert first == second == third
    assert min(first) > 1000
    assert overhead.start_iter == start
    assert all(value > 0 for value in (overhead.update_s, overhead.data_wait_s, overhead.framework_s))
    assert set(overhead.hooks_s) >= {'EMAHook', 'LoggerHook', 'LearningRateHook', 'SizesAt'}
    assert sum(overhead.hooks_s.values()) < overhead.framework_s


def test_text_says_milliseconds_and_shares_of_the_update():
    text = format_overhead(Overhead(0.2, 0.01, 0.002, {'EMAHook': 0.001}, 1_000_000))
    assert text.startswith('from iteration 1,000,000')
    assert re.search(r'framework +2\.000 ms +1\.00%', text)
    assert re.search(r'  EMAHook +1\.000 ms +0\.50%', text)
    assert math.isclose(Overhead(0.2, 0.01, 0.002, {}, 0).share, 0.01)


@pytest.mark.parametrize('settings', [dict(rounds=0), dict(start_iter=-1)])
def test_settings_out_of_range_are_refused(config, settings):
    with pytest.raises(SettingError, match=r'rounds=.* \(1 or more\)'):
        measure_overhead(config, **settings)
