from pathlib import Path

import pytest
import torch

from tests.short_runs import BASE
from wfvae_toolkit.checkpoints import load_training_checkpoint
from wfvae_toolkit.training.post_mortem import replay
from wfvae_toolkit.utils.config import load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def diverged(train, tmp_path_factory):
    """A run whose weights the first update blew up, and what it ended with."""
    folder = tmp_path_factory.mktemp('diverged')
    options = {**BASE, 'train_cfg.max_skipped': 3, 'train_cfg.accumulation': 2,
               'optim_wrapper.autoencoder.optimizer.lr': 1e30, 'default_hooks.checkpoint.interval': 1}
    with pytest.raises(SystemExit) as end:
        train('tiny', folder, **options)
    return folder, end.value.code


def test_a_run_that_diverged_says_what_went_bad_and_keeps_it(diverged):
    folder, message = diverged
    place = folder / 'non_finite_iter_1'
    kept = torch.load(place / 'batch_rank_0.pth', weights_only=True)
    assert message.startswith(f'error: 3 updates in a row skipped at iteration 1: {kept["term"]} was the first that '
                              'was not finite')
    assert str(place) in message
    assert not torch.isfinite(kept['log'][kept['term']]).all()
    first, second = kept['micro_batches']
    # After an update of four images and two skipped ones.
    assert first['positions'] + second['positions'] == [12, 13, 14, 15]
    assert first['images'].shape == (2, 3, 16, 16)
    assert all(path.endswith('.png') for path in first['paths'])
    assert load_training_checkpoint(place / 'checkpoint.pth')['meta']['iteration'] == 1


def test_the_update_can_be_made_again(diverged, monkeypatch):
    place = diverged[0] / 'non_finite_iter_1'
    kept = torch.load(place / 'batch_rank_0.pth', weights_only=True)
    update = replay(load_config(ROOT / 'tests/data/configs/tiny.py'), place)
    assert update.skipped == kept['term']
    assert update.log.keys() == kept['log'].keys()
    for name, value in update.log.items():
        assert torch.allclose(value, kept['log'][name], rtol=0, atol=0, equal_nan=True), name
