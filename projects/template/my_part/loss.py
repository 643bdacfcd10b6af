"""The part: one class, registered under its name."""

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.registry import LOSSES


@LOSSES.register_module()
class MyLoss(Loss):
    """sum over an image of |differences between neighbours, of target minus reconstruction|, mean over the batch.

    Args:
        weight (float): factor in the objective.
    """

    def forward(self, step):
        error = step.target - step.reconstruction  # (B, 3, H, W)
        across = error.diff(dim=3).abs().flatten(1).sum(1)
        down = error.diff(dim=2).abs().flatten(1).sum(1)
        return (across + down).mean()
