"""The benchmark loads the same crops by every reader, and counts what its workers spend."""

import pytest
import torch

from wfvae_toolkit.analysis import loading
from wfvae_toolkit.analysis.loading import (
    Load,
    batches_of,
    compare,
    describe_opening,
    format_loads,
    measure,
    measure_opening,
    write_pictures,
)

READERS = ('folder', 'shards', 'table', 'folder, fast',
           pytest.param('torchvision', marks=pytest.mark.slow))  # importing it takes seconds


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('loading')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loading.CASES, 'tiny', ((64, 48), 16))
        write_pictures(folder, 'tiny', 16)
        yield folder


@pytest.mark.parametrize('reader', READERS)
def test_every_reader_gives_crops_of_all_pictures(folder, reader):
    batches = batches_of(reader, folder, 'tiny', 0)
    images = torch.cat([next(batches), next(batches)])
    assert (images.dtype, images.shape) == (torch.uint8, (16, 3, 16, 16))
    assert len({image.numpy().tobytes() for image in images}) == 16


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_a_measurement_counts_the_time_of_workers(folder):
    alone, helped = (measure('folder', folder, 'tiny', workers, 40, cold=True) for workers in (0, 2))
    assert (alone.pictures, helped.pictures) == (40, 56)
    assert alone.stored_bytes > 40 * 500
    assert min(alone.cpu_s, alone.wall_s, helped.cpu_s, helped.wall_s) > 0


def test_the_table_holds_medians_of_rounds():
    found = {'a': [Load(10, 10**6, 1.0, 2.0), Load(10, 10**6, 2.0, 2.0), Load(10, 10**6, 4.0, 1.0)],
             'b': [Load(10, 10**6, 2.0, 2.0), Load(10, 10**6, 2.0, 2.0), Load(10, 10**6, 2.0, 2.0)]}
    assert format_loads(found, 'b')[2:] == ['| a | 5.0 | 0.5 | 5.0 | 1.00 |', '| b | 5.0 | 0.5 | 5.0 | 1.00 |']
    assert format_loads(found)[2] == '| a | 5.0 | 0.5 | 5.0 |'


def test_opening_many_samples_is_measured(tmp_path):
    found = measure_opening(tmp_path / 'many', 40)
    assert (found.entries, list(found.first_batch_s)) == (40, [0, 20, 40, 137])
    assert min(found.index_s, found.open_s, *found.first_batch_s.values()) > 0
    assert 2**20 < found.worker_bytes < 2**28
    assert describe_opening(found)[0].startswith('40 samples in tar shards: index made in ')


def test_readers_take_turns(folder):
    order = []
    found = compare(('shards', 'folder'), folder, 'tiny', 0, 8, 2, report=order.append)
    assert [line.partition(':')[0] for line in order] == ['shards', 'folder'] * 2
    assert all(len(loads) == 2 for loads in found.values())
