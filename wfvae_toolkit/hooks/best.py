"""Direction in which a score is better, and the checkpoint with the best score."""

import math
from pathlib import Path

from wfvae_toolkit.checkpoints import CheckpointError, load_training_checkpoint, save_training_checkpoint
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.utils.files import WriteError
from wfvae_toolkit.visualization.records import read_records


def higher_is_better(runner, column):
    """Whether a higher value of a column of the validation is better: 'PSNR', 'raw/PSNR', 'Name.part', 'flat/grid'.

    The attribute ``higher_is_better`` of the metric says it, or of the hook that adds the column.

    Raises:
        SettingError: there is no validation, the column is not measured, or neither direction is better.
    """
    if runner.val_loop is None:
        raise SettingError(f'{column!r} is not measured without validation; set val_dataloader, val_cfg and '
                           'val_evaluator')
    of_hooks = _columns_of_hooks(runner)
    if column in of_hooks:
        return of_hooks[column]
    if column.startswith('raw/') and runner.averaged_autoencoder is None:
        raise SettingError(f'{column!r} is not measured without default_hooks.ema: then {column[4:]!r} is the score '
                           'of the raw weights')
    evaluator = runner.val_loop.evaluator
    known = [*evaluator.columns, *(f'raw/{name}' for name in evaluator.columns), *of_hooks]
    direction = evaluator.higher_is_better(column, known)
    if direction is None:
        raise SettingError(f'{column!r}: neither direction of this metric is better; choose another, or for one of '
                           'MMEngine add higher_is_better=True or False to its row')
    return direction


def measured_score(runner, column, metrics):
    """A column of a validation just made; NaN if its mean is no number; None if a hook did not measure it this time.

    Raises:
        SettingError: the validation has no such column.
    """
    score = metrics.get(column)
    if score is not None or column in _columns_of_hooks(runner):
        return score
    measured = runner.val_loop.summary.metrics
    if column not in measured:
        raise SettingError(f'{column!r}: the validation has no such column; it has {", ".join(measured)}')
    return math.nan


def _columns_of_hooks(runner):
    return {name: better for hook in runner.hooks
            for name, better in getattr(hook, 'higher_is_better', {}).items()}


def improves(score, other, higher):
    """Whether a score is better than another; ``higher``: whether higher scores are better."""
    return score > other if higher else score < other


class BestCheckpoint:
    """``best_METRIC.pth`` in the run's folder: the weights with the best finite score of one column so far.

    Args:
        column (str): of the validation's metrics.

    Attributes:
        higher (bool): whether a higher score is better; set before the run.
        score (float | None): the best so far.
    """

    def __init__(self, column):
        self.column = column
        self.higher = None
        self.score = None

    def catch_up(self, runner):
        """Before training: read the best score from the log, and write the file if an earlier start did not."""
        scores = self._logged(runner) if distributed.is_main() else {}
        score, missing = self.score, False
        if scores:
            # The first of several equal scores.
            best = (max if self.higher else min)(scores, key=scores.get)
            held = self._held_iteration(runner)
            score = scores[best]
            missing = best == runner.iter > 0 and held != best
            if not missing and held in scores and improves(score, scores[held], self.higher):
                runner.logger.warning(
                    f'{self.path(runner)} is of iteration {held}, {self.column} {scores[held]:.4f}; iteration {best} '
                    f'had {score:.4f}, whose weights were not kept. The next score better than '
                    f'{scores[held]:.4f} replaces it')
                score = scores[held]
        self.score, missing = distributed.of_main((score, missing))
        if missing:
            # The run ended after it logged this score and before it saved the weights.
            self._save(runner)

    def _logged(self, runner):
        """Iteration -> score. The newest may be missing: a checkpoint is written before its validation."""
        rows = [row for row in read_records(runner.work_dir) if row['phase'] == 'val']
        return {row['iteration']: row[self.column] for row in rows
                if 0 < row['iteration'] <= runner.iter and row.get(self.column) is not None}

    def take(self, runner, metrics):
        """Save the weights if a validation's score is the best so far. A score that is not finite is ignored.

        Raises:
            SettingError: the validation has no such column.
        """
        with located('save_best'):
            score = measured_score(runner, self.column, metrics)
        if score is None:
            return
        if not math.isfinite(score):
            runner.logger.warning(f'iteration {runner.iter}: {self.column} is no finite number; this checkpoint is '
                                  'not considered as the best')
        elif self.score is None or improves(score, self.score, self.higher):
            self.score = score
            self._save(runner)

    def _save(self, runner):
        path, checkpoint = self.path(runner), runner.state(runner.iter)
        if distributed.is_main():
            try:
                save_training_checkpoint(checkpoint, path, runner.model.autoencoder_config)
            except WriteError as error:
                runner.logger.error(f'{error}. The run goes on without this file')
            else:
                runner.logger.info(f'saved {path}: {self.column} {self.score:.4f} is the best so far')

    def path(self, runner):
        return Path(runner.work_dir) / f'best_{self.column.replace("/", "_")}.pth'

    def _held_iteration(self, runner):
        """Iteration of the file's weights; None if there is no complete file."""
        try:
            return load_training_checkpoint(self.path(runner), 'meta')['meta']['iteration']
        except CheckpointError:
            return None
