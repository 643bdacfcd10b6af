"""Stand-ins for the Runner that hooks of validations need."""

import logging
from types import SimpleNamespace

from wfvae_toolkit.evaluation import ReconstructionEvaluator


def validating_runner(hook, folder, iteration=0, **fields):
    """A stand-in for the Runner, in training, that measures ``PSNR`` and ``turned.image`` in ``folder``."""
    evaluator = ReconstructionEvaluator(dict(PSNR=dict(type='PSNR'), turned=dict(type='RotationEquivariance')))
    return SimpleNamespace(
        work_dir=str(folder), iter=iteration, hooks=[hook], in_training=True, averaged_autoencoder=1,
        train_loop=SimpleNamespace(stop_training=False), logger=logging.getLogger('test'),
        val_loop=SimpleNamespace(evaluator=evaluator, summary=SimpleNamespace(metrics={'PSNR': {}})), **fields)


def stopped_at(hook, runner, scores, first=None):
    """Validate once per iteration, from ``first`` (default: the next one); the one at which the hook stops, or None."""
    for iteration, score in enumerate(scores, runner.iter + 1 if first is None else first):
        runner.iter = iteration
        hook.after_val_epoch(runner, {} if score is None else {hook.monitor: score})
        if runner.train_loop.stop_training:
            return iteration
    return None
