"""What users, plug-ins and saved files rely on stays: see `public_surface.py`."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests import public_surface
from wfvae_toolkit.checkpoints import read_model

DATA = Path(__file__).parent / 'data'
# Checkpoints of a version and of the commit that trains the shipped model, each with the log of how that went on.
RUNS = ('run_0_1_0', 'run_zoo')
# Time and memory of a machine.
MEASURED = {'seconds_per_iteration', 'images_per_second', 'data_wait_share', 'peak_memory_gib'}


@pytest.fixture(scope='module')
def now():
    return public_surface.collect()


@pytest.fixture(scope='module')
def recorded():
    return json.loads(public_surface.FILE.read_text(encoding='utf-8'))


@pytest.mark.parametrize('kind', ['parts', 'config keys', 'checkpoint keys', 'tool options', 'exported names',
                                  'import paths', 'configs'])
def test_nothing_comes_or_goes_unnoticed(now, recorded, kind):
    gone, new = (sorted(set(one[kind]) - set(other[kind])) for one, other in ((recorded, now), (now, recorded)))
    assert not gone, f'{kind}: gone: {gone}; users rely on them: keep them working, or raise with the replacement'
    assert not new, f'{kind}: new: {new}; if they are meant: python -m tests.public_surface records them'


def test_every_kind_is_compared(now, recorded):
    assert list(now) == list(recorded)
    assert all(recorded.values())


@pytest.mark.parametrize('run', RUNS)
def test_an_earlier_run_goes_on(tool, tmp_path, run):
    """As the code of its day went on; rounding of float32 differs between processors, and grows over two updates."""
    shutil.copy(DATA / run / 'iter_2.pth', tmp_path)
    tool('train')(DATA / run / 'run.py', '--work-dir', tmp_path, '--resume')
    before, now = ([json.loads(line) for line in (folder / 'log.jsonl').read_text(encoding='utf-8').splitlines()]
                   for folder in (DATA / run, tmp_path))
    before = [row for row in before if row['iteration'] > 2]
    assert [(row['phase'], row['iteration']) for row in now] == [('train', 3), ('train', 4), ('val', 4)]
    for old, new in zip(before, now, strict=True):
        for name in set(old) - MEASURED - {'phase'}:
            assert new[name] == pytest.approx(old[name], rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize('run', RUNS)
def test_an_earlier_model_is_read(run):
    model = read_model(DATA / run / 'iter_2.pth')
    assert (model.weights, model.meta['iteration'], model.config['type']) == ('ema', 2, 'WFVAE2Image')
    assert all(torch.isfinite(value).all() for value in model.build().state_dict().values())
