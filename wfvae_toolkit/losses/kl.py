"""Divergence of the posterior from the standard normal."""

from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError

from .base import Loss, sum_per_image


@LOSSES.register_module()
class KLLoss(Loss):
    """Divergence of the posterior from the standard normal, summed over an image, in nats.

    Of the Gaussian: sum 0.5 * (mean^2 + var - 1 - logvar) (Kingma and Welling 2014, appendix B).
    """

    def __init__(self, weight=1e-6):
        super().__init__(weight)

    def check_autoencoder(self, config, autoencoder):
        """SettingError: the posterior has no KL."""
        kind = getattr(autoencoder, 'posterior_kind', None)
        if kind is not None and kind.distribution.least_kl is None:
            raise SettingError(f'{type(kind).__name__} has no KL divergence: set this row to None, or use another '
                               'model.autoencoder.posterior')

    def forward(self, step):
        return sum_per_image(step.latent_dist.kl())
