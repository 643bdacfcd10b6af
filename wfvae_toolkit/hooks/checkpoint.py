"""When checkpoints are written and which are kept."""

from pathlib import Path

from mmengine.hooks import Hook

from wfvae_toolkit.checkpoints import LAST, list_checkpoints, save_training_checkpoint
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_write
from wfvae_toolkit.visualization.records import read_records


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Writes ``iter_N.pth`` every ``interval`` updates and at the end; older ones go only after the new one is whole.

    ``last_checkpoint`` in the run's folder holds the newest file's name.

    Args:
        interval (int): updates between checkpoints.
        max_keep_ckpts (int): how many to keep; 0 keeps all.
        save_best (str): a metric whose best checkpoint is kept as ``best_METRIC.pth``, such as ``'PSNR'``.
        best_is_higher (bool): whether a higher value is better.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval=1000, max_keep_ckpts=3, save_best=None, best_is_higher=True):
        if interval < 1 or max_keep_ckpts < 0:
            raise SettingError(f'CheckpointHook: interval={interval} (1 or more), max_keep_ckpts={max_keep_ckpts} '
                               '(0 keeps all)')
        self.interval = interval
        self.max_keep_ckpts = max_keep_ckpts
        self.save_best = save_best
        self.best_is_higher = best_is_higher
        self.best = None

    def before_train(self, runner):
        # A checkpoint is written before the validation at its iteration, whose score it therefore lacks.
        scores = [row[self.save_best] for row in read_records(runner.work_dir)
                  if 0 < row['iteration'] <= runner.iter and row['phase'] == 'val'
                  and row.get(self.save_best) is not None]
        if scores:
            self.best = (max if self.best_is_higher else min)(scores)
        self.best = distributed.of_main(self.best)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        iteration = batch_idx + 1
        if iteration % self.interval == 0 or iteration == runner.max_iters:
            self.save(runner, iteration)

    def save(self, runner, iteration):
        """All ranks call it; rank 0 writes."""
        path = self._write(runner, iteration, f'iter_{iteration}.pth')
        if distributed.is_main():
            with atomic_write(path.parent / LAST, 'w') as file:
                file.write(path.name + '\n')
            if self.max_keep_ckpts:
                # Higher numbers are of another run in this folder: not ours to count or remove.
                paths = list_checkpoints(path.parent)
                for old in paths[:paths.index(path) + 1][:-self.max_keep_ckpts]:
                    old.unlink()
            runner.logger.info(f'saved {path}')
        distributed.barrier()

    def after_val_epoch(self, runner, metrics=None):
        value = (metrics or {}).get(self.save_best)
        if value is None:
            return
        if self.best is None or (value > self.best if self.best_is_higher else value < self.best):
            self.best = value
            path = self._write(runner, runner.iter, f'best_{self.save_best.replace("/", "_")}.pth')
            runner.logger.info(f'saved {path}: {self.save_best} {value:.4f} is the best so far')

    def _write(self, runner, iteration, name):
        path = Path(runner.work_dir) / name
        checkpoint = runner.state(iteration)
        if distributed.is_main():
            save_training_checkpoint(checkpoint, path, runner.model.autoencoder_config)
        return path

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['best'] = self.best

    def after_load_checkpoint(self, runner, checkpoint):
        self.best = checkpoint.get('best')
