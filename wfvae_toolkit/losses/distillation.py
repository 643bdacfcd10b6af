"""Latents of a trained model as targets."""

import logging

import torch
from mmengine.logging import print_log

from wfvae_toolkit.checkpoints import fingerprint, read_model
from wfvae_toolkit.checkpoints.settings import complete, difference
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError

from .base import Loss, sum_per_image
from .perceptual import as_constant


@LOSSES.register_module()
class DistillationLoss(Loss):
    """sum |teacher's posterior mean - student's| per image.

    The teacher is a constant: it enters no checkpoint and no optimizer. ``source`` names its file and weights, with a
    digest of the weights, so that a resumed run notices another teacher.

    Args:
        teacher (str): a MODEL, as of ``wfvae_toolkit.checkpoints.read_model``.
        weights (str): the teacher's ``'ema'`` or ``'raw'`` weights.

    Raises:
        CheckpointError: the teacher cannot be read.
        SettingError: the latents of teacher and student differ in shape.
    """

    def __init__(self, teacher, weights='ema', weight=1.0):
        super().__init__(weight)
        model = read_model(teacher, weights)
        self.config, self.source = model.config, f'{model.path} ({model.weights}, {fingerprint(model)[:16]})'
        self.teacher = as_constant(model.build())

    def check_autoencoder(self, config, student):
        """Log the settings in which teacher and student differ; SettingError if the latents differ in shape."""
        teacher = self.teacher.network
        for name in ('latent_channels', 'downsample_factor'):
            theirs, ours = getattr(teacher, name), getattr(student, name)
            if theirs != ours:
                raise SettingError(f"the teacher {self.source} has {name}={theirs}, the student {ours}; latents of one "
                                   'shape are needed')
        before, now = complete(self.config), complete(config)
        differing = [f'{name} {before.get(name)!r}, {now.get(name)!r}' for name in difference(before, now)]
        if differing:
            print_log(f'DistillationLoss: teacher {self.source} and student differ in {"; ".join(differing)}',
                      'current', logging.WARNING)

    def forward(self, step):
        with torch.no_grad():
            target = self.teacher.network.encode(step.target).latent_dist.mode()
        student = step.latent_dist.mode()
        if target.shape != student.shape:
            raise SettingError(f"DistillationLoss: the teacher's latents are {tuple(target.shape[1:])}, the student's "
                               f'{tuple(student.shape[1:])}')
        return sum_per_image((target - student).abs())
