"""Updates that are not finite, seen from the loop."""

import json
import re
from pathlib import Path

import pytest
import torch
from run_files import read_csv

from wfvae_toolkit.checkpoints import load_training_checkpoint
from wfvae_toolkit.training import loops

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 9
BASE = {'train_cfg.max_iters': LENGTH, 'train_cfg.val_interval': 3, 'default_hooks.logger.interval': 3,
        'default_hooks.learning_rate.decay': 'cosine', 'default_hooks.header': None, 'default_hooks.curves': None,
        'default_hooks.pictures': None, 'default_hooks.flat_fields': None}
ATTEMPTS = dict(type='run_probes.Attempts')


def attempts(folder):
    return json.loads((folder / 'attempts.json').read_text(encoding='utf-8'))


def assert_only_images_moved(rows, skipped):
    """Every iteration was made once; an attempt that was skipped left all but the images to the next."""
    made = [row for number, row in enumerate(rows) if number not in skipped]
    assert [row['iteration'] for row in made] == list(range(LENGTH))
    for number in skipped:
        for name in ('iteration', 'turns', 'rate', 'weights', 'average'):
            assert rows[number][name] == rows[number + 1][name], name
    assert [row['consumed'] for row in rows] == [2 * number for number in range(len(rows))]


def test_a_skipped_update_moves_neither_average_nor_schedule(train, tmp_path):
    train('tiny', tmp_path / 'whole', **BASE, custom_hooks=[ATTEMPTS])
    # Updates 1 and 7: before anything was validated, and right after.
    spoil = [dict(type='run_probes.SpoilAt', iteration=n, count=c) for n, c in ((1, 1), (7, 2))]
    train('tiny', tmp_path / 'spoilt', **BASE, custom_hooks=[ATTEMPTS, *spoil])
    rows, expected = attempts(tmp_path / 'spoilt'), attempts(tmp_path / 'whole')
    assert_only_images_moved(rows, skipped=[0, 7, 8])
    assert_only_images_moved(expected, skipped=[])
    made = [row for number, row in enumerate(rows) if number not in (0, 7, 8)]
    assert [row['rate'] for row in made] == [row['rate'] for row in expected]
    meta = load_training_checkpoint(tmp_path / f'spoilt/iter_{LENGTH}.pth')['meta']
    assert (meta['skipped'], meta['skipped_in_a_row'], meta['consumed']) == (3, 0, (LENGTH + 3) * 2)
    for name in ('train.csv', 'val.csv'):
        assert [row['iteration'] for row in read_csv(tmp_path / 'spoilt' / name)] == ['3', '6', '9']
    assert [row['skipped_updates'] for row in read_csv(tmp_path / 'spoilt/train.csv')] == ['1', '1', '3']


@pytest.mark.parametrize('turns', ['alternate', 'joint'])
def test_an_overflow_of_fp16_lowers_the_scale_and_nothing_else(train, tmp_path, turns):
    # More halvings than updates may be skipped in a row.
    train('tiny', tmp_path, **{**BASE, 'model.precision': 'fp16', 'model.turns': turns, 'train_cfg.max_skipped': 2},
          custom_hooks=[{**ATTEMPTS, 'scale': 2.0**24}])
    rows = attempts(tmp_path)
    skipped = [number for number, (row, after) in enumerate(zip(rows, rows[1:], strict=False))
               if row['iteration'] == after['iteration']]
    assert skipped[0] == 0
    assert_only_images_moved(rows, skipped)
    autoencoder_s = [n for n in skipped if rows[n]['turns'] == ['autoencoder']]
    for number in autoencoder_s:
        assert rows[number + 1]['scale'] == rows[number]['scale'] / 2
    assert rows[-1]['weights'] != rows[0]['weights']
    first_made = next(number for number in range(len(rows)) if number not in skipped)
    assert first_made > 2
    meta = load_training_checkpoint(tmp_path / f'iter_{LENGTH}.pth')['meta']
    assert (meta['skipped'], meta['consumed']) == (0, (LENGTH + len(skipped)) * 2)
    log = next(tmp_path.glob('*/*.log')).read_text(encoding='utf-8')
    assert log.count(f'gradients of the autoencoder went down from {2**24:g} to {2.0**(24 - first_made):g};') == 1
    assert ' skipped: ' not in log


def test_fp16_counts_a_term_that_is_not_finite_at_once(train, tmp_path):
    spoil = dict(type='run_probes.SpoilAt', iteration=3, count=2)
    with pytest.raises(SystemExit) as end:
        train('tiny', tmp_path, **{**BASE, 'model.precision': 'fp16', 'train_cfg.max_skipped': 2},
              custom_hooks=[{**ATTEMPTS, 'scale': 2.0**10}, spoil])
    assert str(end.value.code).startswith('error: 2 updates in a row skipped at iteration 2: pixel was the first that '
                                          'was not finite')


def test_gradients_that_no_scale_of_fp16_makes_finite_end_the_run(train, tmp_path):
    with pytest.raises(SystemExit) as end:
        train('tiny', tmp_path, **{**BASE, 'model.precision': 'fp16'},
              custom_hooks=[{**ATTEMPTS, 'scale': 2.0**-20}, dict(type='run_probes.SpoilGradients')])
    assert re.match(r'error: iteration 0: the gradient of the autoencoder is not finite in fp16 at any scale down to '
                    r'6e-08, although every term is; use model.precision=bf16', str(end.value.code))
    place = tmp_path / 'non_finite_iter_0'
    assert str(place) in str(end.value.code)
    # Scales of 2^-20 to 2^-24: five attempts, of which the last is kept.
    assert torch.load(place / 'batch_rank_0.pth', weights_only=True)['micro_batches'][0]['positions'] == [8, 9]


@pytest.mark.parametrize(('terms', 'named'), [
    (['pixel'], 'pixel'), (['gradient_norm/autoencoder'], 'gradient_norm/autoencoder')])
def test_one_process_names_its_own_term(terms, named):
    assert loops._first_of_ranks(terms) == named


def test_of_several_ranks_the_one_at_fault_is_named(monkeypatch):
    terms = ['gradient_norm/autoencoder', 'perceptual', 'gradient_norm/autoencoder']
    monkeypatch.setattr(loops.distributed, 'is_distributed', lambda: True)
    assert loops._first_of_ranks(terms) == 'perceptual on rank 1'


@pytest.mark.slow
def test_a_run_is_validated_by_a_protocol_and_keeps_the_best_by_a_distance_of_sets(train, tmp_path):
    train('tiny', tmp_path, **{**BASE, 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 1,
                               'val_evaluator.protocol': 'rae', 'val_evaluator.resolution': 24,
                               'val_evaluator.metrics.FD': dict(type='FrechetDistance', features='stlpips-alex'),
                               'default_hooks.checkpoint.save_best': 'FD'})
    rows = read_csv(tmp_path / 'val.csv')
    assert all(float(row[name]) > 0 for row in rows for name in ('PSNR', 'SSIM_valid', 'FD', 'raw/FD'))
    best = min(rows, key=lambda row: float(row['FD']))
    assert load_training_checkpoint(tmp_path / 'best_FD.pth')['meta']['iteration'] == int(best['iteration'])
