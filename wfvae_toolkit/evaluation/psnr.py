"""Peak signal-to-noise ratio."""

import torch

from wfvae_toolkit.registry import METRICS

from .metric import Metric


def psnr(reconstruction, target):
    """Two (B, 3, H, W) in [0, 1] -> (B,) float64 in dB for a peak of 1; infinite where they are identical."""
    # An image at a time: whole batches in float64 leave a CPU's cache and take three times as long.
    error = torch.stack([(ours.double() - theirs.double()).square().mean()
                         for ours, theirs in zip(reconstruction, target, strict=True)])
    return -10 * error.log10()


@METRICS.register_module()
class PSNR(Metric):
    """PSNR of each image over all its pixels and channels, in dB."""

    higher_is_better = True
    description = 'PSNR in dB, RGB, peak 1; infinite values are counted and left out of the mean'

    def measure(self, batch):
        return psnr(batch.reconstruction, batch.target)
