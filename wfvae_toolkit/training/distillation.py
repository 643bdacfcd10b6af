"""Latents of a trained model as targets."""

import torch

from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.losses import Loss
from wfvae_toolkit.losses.base import sum_per_image
from wfvae_toolkit.losses.perceptual import as_constant
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError


@LOSSES.register_module()
class DistillationLoss(Loss):
    """sum |teacher's posterior mean - student's| per image.

    The teacher is a constant: it enters no checkpoint and no optimizer.

    Args:
        teacher (str): a MODEL, as of ``wfvae_toolkit.checkpoints.read_model``.
        weights (str): ``'ema'`` or ``'raw'`` of it.

    Raises:
        CheckpointError: the teacher cannot be read.
        SettingError: while training, latents of another shape.
    """

    def __init__(self, teacher, weights='ema', weight=1.0):
        super().__init__(weight)
        self.teacher = as_constant(read_model(teacher, weights).build())

    def forward(self, step):
        with torch.no_grad():
            target = self.teacher.network.encode(step.target).latent_dist.mode()
        student = step.latent_dist.mean
        if target.shape != student.shape:
            raise SettingError(f"DistillationLoss: the teacher's latents are {tuple(target.shape[1:])}, the student's "
                               f'{tuple(student.shape[1:])}')
        return sum_per_image((target - student).abs())
