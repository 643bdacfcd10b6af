"""Loss curves as a picture in the run's folder."""

import collections
import math
from pathlib import Path

from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.visualization.curves import Curve, draw_curves
from wfvae_toolkit.visualization.records import read_records

from .discriminator_warmup import DiscriminatorWarmupHook

_PANELS = {
    'autoencoder, per pixel value': ('train', ('per_pixel/pixel', 'per_pixel/perceptual', 'per_pixel/wavelet')),
    'KL, nats an image': ('train', ('kl',)),
    'discriminator': ('train', ('discriminator', 'adversarial')),
    'validation PSNR, dB': ('val', ('PSNR', 'raw/PSNR')),
    'validation, perceptual distance': ('val', ('LPIPS', 'STLPIPS', 'raw/LPIPS', 'raw/STLPIPS')),
    'flat fields, 8-bit levels RMS': ('val', ('flat/grid', 'flat/stripes')),
}


@HOOKS.register_module()
class LossCurvesHook(Hook):
    """Draws ``curves.png`` after each validation and at the end, with the discriminator's start marked.

    Each logged row is added once, so the cost of a drawing does not grow with the run.
    """

    priority = 'LOW'

    def before_train(self, runner):
        self.curves = collections.defaultdict(Curve)
        if distributed.is_main():
            for row in read_records(runner.work_dir):
                if row['iteration'] <= runner.iter:
                    self.after_log(runner, row['phase'], row)

    def after_log(self, runner, phase, row):
        for name, value in row.items():
            if isinstance(value, float) and math.isfinite(value):
                self.curves[phase, name].add(row['iteration'], value)

    def after_val_epoch(self, runner, metrics=None):
        if runner.in_training:
            self.draw(runner)

    def after_train(self, runner):
        self.draw(runner)

    def draw(self, runner):
        """Rank 0 writes the picture."""
        if not distributed.is_main():
            return
        start = next((hook.start_iter for hook in runner.hooks if isinstance(hook, DiscriminatorWarmupHook)), None)
        mark = None
        if runner.model.discriminator is not None and start is not None and start < runner.iter:
            mark = (start, 'discriminator starts')
        panels = {title: {name: self.curves[phase, name] for name in names if (phase, name) in self.curves}
                  for title, (phase, names) in _PANELS.items()}
        draw_curves(panels, Path(runner.work_dir) / 'curves.png', mark)
