"""When the discriminator starts."""

from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils.errors import SettingError


@HOOKS.register_module()
class DiscriminatorWarmupHook(Hook):
    """Adversarial terms and the discriminator's turns begin at iteration ``start_iter``.

    Args:
        start_iter (int): updates of the autoencoder alone before it.
    """

    priority = 'VERY_HIGH'

    def __init__(self, start_iter=0):
        if start_iter < 0:
            raise SettingError(f'DiscriminatorWarmupHook: start_iter={start_iter}; 0 or more is needed')
        self.start_iter = start_iter

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.discriminator_started = batch_idx >= self.start_iter
