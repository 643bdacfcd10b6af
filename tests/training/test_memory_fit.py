"""Settings with which a training fits."""

from types import SimpleNamespace

import pytest

from wfvae_toolkit.training.memory import Load
from wfvae_toolkit.training.memory_fit import MOST, largest_batch, ways_to_fit


@pytest.mark.parametrize(('limit', 'batch'), [(99, 0), (100, 0), (110, 1), (149, 4), (150, 5), (1000, 90)])
def test_largest_batch_of_few_counts(limit, batch):
    tried = []
    assert largest_batch(lambda images: tried.append(images) or 100 + 10 * images, limit) == batch
    assert len(tried) <= 4


def test_largest_batch_where_small_ones_cost_nothing_more():
    assert largest_batch(lambda images: max(500, 10 * images), 777) == 77
    assert largest_batch(lambda images: images, 10**9) == MOST


def test_ways_to_fit_are_those_that_fit():
    def count(load):
        image = load.edge**2 * (0.5 if load.precision == 'bf16' else 1.0) * (0.8 if load.checkpoint_activations else 1)
        return SimpleNamespace(largest=SimpleNamespace(peak_bytes=1000 + load.batch * image))

    ways = ways_to_fit(Load(batch=4, size=64), count, 1000 + 2.5 * 64**2, 'fp32', 8)
    assert [way.partition(' (')[0] for way in ways] == [
        'train_dataloader.batch_size=2 with train_cfg.accumulation=2', 'model.precision=bf16', 'crops of 32 px']
    assert ways_to_fit(Load(batch=4, size=64), count, 999, 'fp32', 8) == []
    wide = ways_to_fit(Load(batch=4, size=(32, 128)), count, 1000 + 2.5 * 64**2, 'fp32', 8)
    assert wide[-1].startswith('sizes of 32 x 32 pixels (')
