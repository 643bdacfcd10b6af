"""Speed with several processes; seconds are for the tool."""

import os
import re

import pytest

from wfvae_toolkit.analysis.scaling import Scaling, format_scaling, measure_scaling
from wfvae_toolkit.utils.errors import SettingError


def test_share_of_linear_is_of_the_rounds():
    scaling = Scaling(2, single=(10.0, 20.0, 10.0), several=(19.0, 30.0, 20.0))
    assert scaling.of_linear == pytest.approx(0.95)
    assert format_scaling(scaling) == '1 process 10.00 images/s, 2 processes 20.00: 0.950 of linear'


@pytest.mark.parametrize('settings', [dict(processes=1), dict(processes=4096), dict(rounds=0), dict(iterations=0)])
def test_what_cannot_be_measured_is_refused(settings):
    with pytest.raises(SettingError, match='every process needs a core'):
        measure_scaling('config.py', 'tools', **settings)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='two processes need two cores')
def test_trains_with_one_and_two_processes(tool, photos, capsys):
    tiny = 'tests/data/configs/tiny.py'
    tool('analysis_tools/measure_scaling')(
        tiny, '--rounds', 1, '--iterations', 2, '--cfg-options', f'train_dataloader.dataset.data_root={photos}/train')
    assert re.search(r'2 of 2 processes: \d.*\n1 process .* of linear\n$', capsys.readouterr().out)
    with pytest.raises(SystemExit, match=r'ended with status 1:\n *error: .*nowhere'):
        tool('analysis_tools/measure_scaling')(
            tiny, '--rounds', 1, '--cfg-options', 'train_dataloader.dataset.data_root=nowhere')
