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

    The average is a second autoencoder, ``runner.averaged_autoencoder``: nothing is ever swapped. In
    the first iterations the decay is min(decay, (1 + n) / (10 + n)), n the iteration, so that short runs do not
    average over their random start.

    Args:
        decay (float): in (0, 1).
    """

    priority = 'HIGH'

    def __init__(self, decay=0.999):
        if not 0.0 < decay < 1.0:
            raise SettingError(f'EMAHook: decay={decay}; a number between 0 and 1 is needed, such as 0.999')
        self.decay = decay

    def before_run(self, runner):
        self.average = copy.deepcopy(runner.model.autoencoder).eval().requires_grad_(False)
        runner.averaged_autoencoder = self.average

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if 'autoencoder' not in outputs.turns:
            return
        source, average = runner.model.autoencoder.state_dict(), self.average.state_dict()
        moving = [name for name, value in average.items() if value.is_floating_point()]
        weight = 1.0 - min(self.decay, (1 + batch_idx) / (10 + batch_idx))
        torch._foreach_lerp_([average[name] for name in moving], [source[name] for name in moving], weight)
        for name in average.keys() - set(moving):
            average[name].copy_(source[name])

    def after_load_weights(self, runner):
        """A run that starts from given weights averages from them on."""
        self.average.load_state_dict(runner.model.autoencoder.state_dict())

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['ema_state_dict'] = self.average.state_dict()

    def after_load_checkpoint(self, runner, checkpoint):
        if 'ema_state_dict' not in checkpoint:
            raise CheckpointError('the checkpoint has no EMA weights; set default_hooks.ema=None to go on without')
        self.average.load_state_dict(checkpoint['ema_state_dict'])
