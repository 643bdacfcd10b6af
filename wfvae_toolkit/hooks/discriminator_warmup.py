"""When the discriminator starts."""

from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils.errors import SettingError


@HOOKS.register_module()
class DiscriminatorWarmupHook(Hook):
    """Adversarial terms begin at iteration ``start_iter``, the discriminator's turns at ``train_iter``.

    Args:
        start_iter (int): first iteration with adversarial terms.
        train_iter (int): first iteration with turns of the discriminator; None: ``start_iter``. With 0 the
            discriminator learns from the first iteration on.
    """

    priority = 'VERY_HIGH'

    def __init__(self, start_iter=0, train_iter: int | None = None):
        if start_iter < 0:
            raise SettingError(f'DiscriminatorWarmupHook: start_iter={start_iter}; 0 or more is needed')
        if train_iter is not None and not 0 <= train_iter <= start_iter:
            raise SettingError(f'DiscriminatorWarmupHook: train_iter={train_iter}; use 0 to start_iter={start_iter}')
        self.start_iter = start_iter
        self.train_iter = start_iter if train_iter is None else train_iter

    def before_train(self, runner):
        # The same state as after the previous iteration: a resumed run may begin with a validation.
        self.before_train_iter(runner, runner.iter - 1)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.discriminator_started = batch_idx >= self.start_iter
        runner.model.discriminator_trains = batch_idx >= self.train_iter
