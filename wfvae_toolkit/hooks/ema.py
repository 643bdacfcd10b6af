"""Exponential moving average of the autoencoder's weights."""

import copy

import torch
from mmengine.hooks import Hook

from wfvae_toolkit.checkpoints import CheckpointError
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils.errors import SettingError


@HOOKS.register_module()
class EMAHook(Hook):
    """average = decay * average + (1 - decay) * weights, after each update of the autoencoder only.

    The average is a second autoencoder, ``runner.averaged_autoencoder``; weights are never swapped. At iteration n the
    decay is at most (1 + n) / (10 + n), so that the average of a short run forgets the random start.

    Args:
        decay (float): in (0, 1).
    """

    priority = 'HIGH'

    def __init__(self, decay=0.999):
        if not 0.0 < decay < 1.0:
            raise SettingError(f'EMAHook: decay={decay}; a number between 0 and 1 is needed, such as 0.999')
        self.decay = decay
        self.average = None

    def before_run(self, runner):
        if self.average is not None:
            return  # a second train() or val() of this runner keeps the average
        self.average = copy.deepcopy(runner.model.autoencoder).eval().requires_grad_(False)
        runner.averaged_autoencoder = self.average
        # List the tensors once: building state dicts takes as long as the averaging. Parameters are never replaced,
        # because the optimizer holds them. A buffer may be replaced, so look it up each time.
        self._source = list(runner.model.autoencoder.parameters())
        self._moving = list(self.average.parameters())
        self._buffers = list(_persistent_buffers(runner.model.autoencoder, self.average))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if 'autoencoder' not in outputs.turns:
            return
        weight = 1.0 - min(self.decay, (1 + batch_idx) / (10 + batch_idx))
        moving, source = list(self._moving), list(self._source)
        for theirs, ours, name in self._buffers:
            average, current = getattr(ours, name), getattr(theirs, name)
            if average.is_floating_point():
                moving.append(average)
                source.append(current)
            else:
                average.copy_(current)
        with torch.no_grad():
            torch._foreach_lerp_(moving, source, weight)

    def after_load_weights(self, runner):
        """Start the average from the loaded weights."""
        self.average.load_state_dict(runner.model.autoencoder.state_dict())

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['ema_state_dict'] = self.average.state_dict()

    def after_load_checkpoint(self, runner, checkpoint):
        if 'ema_state_dict' not in checkpoint:
            raise CheckpointError('the checkpoint has no EMA weights; set default_hooks.ema=None to go on without')
        self.average.load_state_dict(checkpoint['ema_state_dict'])


def _persistent_buffers(source, average):
    """(module of ``source``, same module of ``average``, name) of every buffer that a state dict holds."""
    saved = average.state_dict().keys()
    for (place, theirs), ours in zip(source.named_modules(), average.modules(), strict=True):
        for name, _ in theirs.named_buffers(recurse=False):
            if f'{place}.{name}'.lstrip('.') in saved:
                yield theirs, ours, name
