"""Validation pictures: input, reconstruction, error."""

from pathlib import Path

from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.pictures import comparison_grid, write_picture


@HOOKS.register_module()
class PicturesHook(Hook):
    """Writes ``pictures/iter_N.png`` at each validation: one row an image, of the averaged weights if there are any.

    The error column shows |difference| times 4. The same picture goes to the visualizer (TensorBoard and so on).

    Args:
        count (int): images, the first of the validation set that rank 0 sees.
    """

    def __init__(self, count=4):
        self.count = count

    def before_val_epoch(self, runner):
        self._rows = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        wanted = self.count - len(self._rows)
        if distributed.is_main() and wanted > 0:
            target, reconstruction = outputs['target'][:wanted], outputs['reconstructions']['']
            self._rows += list(zip(target.cpu(), reconstruction[:wanted].cpu(), strict=True))

    def after_val_epoch(self, runner, metrics=None):
        # One picture has one size: images of another one than the first stay out.
        rows = [row for row in getattr(self, '_rows', []) if row[0].shape == self._rows[0][0].shape]
        if not rows:
            return
        import torch

        pixels = comparison_grid(*(torch.stack(column) for column in zip(*rows, strict=True)))
        folder = Path(runner.work_dir) / 'pictures'
        folder.mkdir(exist_ok=True)
        write_picture(pixels, folder / f'iter_{runner.iter}.png')
        runner.visualizer.add_image('val/input_reconstruction_error', pixels, step=runner.iter)
