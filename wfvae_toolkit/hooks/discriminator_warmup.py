"""When the discriminator starts."""

from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils.errors import SettingError


@HOOKS.register_module()
class DiscriminatorWarmupHook(Hook):
    """Adversarial terms begin at iteration ``start_iter``, the discriminator's turns at ``train_iter``.

    Args:
        start_iter (int): updates of the autoencoder without adversarial terms before it.
        train_iter (int): None: ``start_iter`` too; 0 lets the discriminator learn while the autoencoder waits.
    """

    priority = 'VERY_HIGH'

    def __init__(self, start_iter=0, train_iter: int | None = None):
        if start_iter < 0:
            raise SettingError(f'DiscriminatorWarmupHook: start_iter={start_iter}; 0 or more is needed')
        if train_iter is not None and not 0 <= train_iter <= start_iter:
            raise SettingError(f'DiscriminatorWarmupHook: train_iter={train_iter}; 0 to start_iter={start_iter}')
        self.start_iter = start_iter
        self.train_iter = start_iter if train_iter is None else train_iter

    def before_train(self, runner):
        # As after the iteration before: a resumed run may validate first.
        self.before_train_iter(runner, runner.iter - 1)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.discriminator_started = batch_idx >= self.start_iter
        runner.model.discriminator_trains = batch_idx >= self.train_iter
