"""Validation pictures: input, reconstruction, error, and the discriminator's scores."""

from pathlib import Path

import torch
from mmengine.hooks import Hook

from wfvae_toolkit.models.discriminators import score_maps
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.visualization.pictures import comparison_grid, score_overlay, write_picture


@HOOKS.register_module()
class PicturesHook(Hook):
    """Writes ``pictures/iter_N.png`` at each validation: one row per image, of the averaged weights if there are any.

    The error column shows |difference| times 4. Once the discriminator has started, two more columns show its patch
    scores over input and reconstruction: red for real, blue for reconstructed. The strongest colour is the largest
    magnitude in the picture; the log states it. Images that differ in size from the first are left out; the log says
    once how many. The visualizer (TensorBoard and so on) gets the same picture.

    Args:
        count (int): number of images, the first ones of rank 0's part of the validation set.
    """

    def __init__(self, count=4):
        if count < 0:
            raise SettingError(f'PicturesHook: count={count}; 0 or more is needed')
        self.count = count
        self._said = False

    def before_val_epoch(self, runner):
        self._rows = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        wanted = self.count - len(self._rows)
        if distributed.is_main() and wanted > 0:
            target, reconstruction = outputs['target'][:wanted], outputs['reconstructions']['']
            self._rows += list(zip(target.cpu(), reconstruction[:wanted].cpu(), strict=True))

    def after_val_epoch(self, runner, metrics=None):
        rows = [row for row in getattr(self, '_rows', []) if row[0].shape == self._rows[0][0].shape]
        if not rows:
            return
        if len(rows) < len(self._rows) and not self._said:
            height, width = rows[0][0].shape[1:]
            runner.logger.info(f'PicturesHook: shows {len(rows)} of the first {len(self._rows)} validation images: the '
                               f'others differ in size from the first, {width}x{height}')
            self._said = True
        target, reconstruction = (torch.stack(column) for column in zip(*rows, strict=True))
        path = Path(runner.work_dir) / 'pictures' / f'iter_{runner.iter}.png'
        overlays = []
        if runner.model.discriminator is not None and runner.model.discriminator_started:
            scores = [patch_scores(runner.model.discriminator, images) for images in (target, reconstruction)]
            limit = max(part.abs().max().item() for part in scores) or 1.0
            overlays = [score_overlay(images, part, limit)
                        for images, part in zip((target, reconstruction), scores, strict=True)]
            runner.logger.info(f'{path}: patch scores from {-limit:.3g} (blue) to {limit:.3g} (red)')
        pixels = comparison_grid(target, reconstruction, *overlays)
        path.parent.mkdir(exist_ok=True)
        write_picture(pixels, path)
        runner.visualizer.add_image('val/input_reconstruction_error', pixels, step=runner.iter)


@torch.no_grad()
def patch_scores(discriminator, images):
    """Images (B, 3, H, W) in [-1, 1] -> finite scores (B, 1, h, w) on the CPU; of several scales the first map.

    The discriminator stays unchanged: it scores in evaluation mode, where spectral norm makes no power iteration.
    It sees one image at a time.
    """
    device = next(discriminator.parameters()).device
    modes = {module: module.training for module in discriminator.modules()}
    discriminator.eval()
    try:
        scores = torch.cat([score_maps(discriminator(image[None].to(device)))[0].float() for image in images])
    finally:
        for module, training in modes.items():
            module.training = training
    # A score of a whole image becomes a map of size 1x1.
    place = scores.shape[2:] if scores.ndim == 4 else (1, 1)
    return scores.reshape(len(images), -1, *place).mean(1, keepdim=True).nan_to_num(posinf=0.0, neginf=0.0).cpu()
