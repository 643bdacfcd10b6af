"""What an encoder's output says about the latents: a distribution over them, and the kinds that a config names.

A kind (``autoencoder=dict(posterior=dict(type='GaussianPosterior'))``) is a layer of the autoencoder. It turns the
encoder's output into a `LatentDistribution`, from which everything else reads: losses, scores, measurement, export.
"""

import math

import torch
from torch import nn

from wfvae_toolkit.registry import POSTERIORS
from wfvae_toolkit.utils.errors import SettingError, is_number

# Beyond these exp(logvar) leaves float32's range in the KL term and its gradient.
LOGVAR_RANGE = (-30.0, 20.0)
# The std that LOGVAR_RANGE leaves as it is, rounded.
STD_RANGE = (1e-6, 1e4)


class LatentDistribution:
    """A distribution over latents (B, C, h, w), held in the tensors that ``names`` lists.

    Attributes:
        names (tuple[str]): attributes that hold its tensors, the batch in their first dimension. What copies a
            distribution, cuts its gradient or writes it to a file goes over ``tensors`` and calls ``replace``.
        mean (Tensor): (B, C, h, w).
        var (Tensor): (B, C, h, w), of each element alone.
        least_kl (float | None): the smallest value that an element of ``kl()`` can have, in nats: that of a channel
            which carries nothing. None: there is no divergence, and ``kl()`` raises.
    """

    names = ('mean',)
    least_kl = None

    @property
    def tensors(self):
        """The tensors of ``names``, in their order."""
        return tuple(getattr(self, name) for name in self.names)

    def replace(self, tensors):
        """The same kind of distribution made of other ``tensors``."""
        return type(self)(*tensors)

    def mode(self):
        """The most probable latents, (B, C, h, w)."""
        return self.mean

    def sample(self, generator=None, noise=None):
        """One sample, (B, C, h, w).

        Args:
            generator (torch.Generator): of the noise; None: torch's own.
            noise (Tensor): (B, C, h, w), standard normal, in place of what would be drawn.
        """
        raise NotImplementedError

    def kl(self):
        """(B, C, h, w) divergence from the standard normal, in nats. SettingError: there is none."""
        raise SettingError(f'{type(self).__name__} has no KL divergence; leave out the loss or metric that needs it')


class DiagonalGaussian(LatentDistribution):
    """Independent Gaussians, one a latent element; ``logvar`` clamped to [-30, 20].

    Args:
        mean, logvar (Tensor): (B, C, H, W).
    """

    names = ('mean', 'logvar')
    least_kl = 0.0

    def __init__(self, mean, logvar):
        self.mean = mean
        self.logvar = logvar.clamp(*LOGVAR_RANGE)

    @staticmethod
    def from_moments(moments):
        """(B, 2C, H, W), mean then logvar; computed in float32 at least."""
        return DiagonalGaussian(*at_least_float32(moments).chunk(2, dim=1))

    @property
    def std(self):
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self):
        return torch.exp(self.logvar)

    def sample(self, generator=None, noise=None):
        """mean + std * noise; standard normal ``noise`` is drawn unless given."""
        if noise is None:
            device = self.mean.device if generator is None else generator.device
            noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean)

    def kl(self):
        """0.5 * (mean^2 + var - 1 - logvar), (B, C, H, W) in nats (Kingma and Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + self.var - 1.0 - self.logvar)


class FixedVarianceGaussian(DiagonalGaussian):
    """Independent Gaussians of one and the same standard deviation.

    Args:
        mean (Tensor): (B, C, H, W).
        std (float): of every element.
    """

    names = ('mean',)

    def __init__(self, mean, std):
        super().__init__(mean, torch.full_like(mean, 2 * math.log(std)))
        self.fixed_std = std
        self.least_kl = 0.5 * (std**2 - 1) - math.log(std)

    def replace(self, tensors):
        return type(self)(*tensors, self.fixed_std)


class PointMass(LatentDistribution):
    """A single value: every sample is the mean. Its divergence from a density is infinite, so ``kl()`` raises.

    Args:
        mean (Tensor): (B, C, H, W).
    """

    def __init__(self, mean):
        self.mean = mean

    @property
    def std(self):
        return torch.zeros_like(self.mean)

    @property
    def var(self):
        return torch.zeros_like(self.mean)

    def sample(self, generator=None, noise=None):
        """The mean; nothing is drawn."""
        return self.mean


class PosteriorKind(nn.Module):
    """Base of the POSTERIORS: (B, encoder_channels(C), h, w) of an encoder -> LatentDistribution over (B, C, h, w).

    Attributes:
        distribution (type): what ``forward`` returns. One without ``least_kl`` is refused with a KL loss, and of one
            that is no DiagonalGaussian no mean and variance are cached.
    """

    distribution = LatentDistribution

    def encoder_channels(self, latent_channels):
        """How many channels the encoder gives for ``latent_channels`` latent ones."""
        return latent_channels

    def forward(self, encoded):
        """(B, encoder_channels(C), h, w) -> LatentDistribution, in float32 at least."""
        raise NotImplementedError


@POSTERIORS.register_module()
class GaussianPosterior(PosteriorKind):
    """The encoder gives mean and log variance of every latent element (Kingma and Welling 2014): the default."""

    distribution = DiagonalGaussian

    def encoder_channels(self, latent_channels):
        return 2 * latent_channels

    def forward(self, encoded):
        return DiagonalGaussian.from_moments(encoded)


@POSTERIORS.register_module()
class FixedVariancePosterior(PosteriorKind):
    """The encoder gives the mean; training adds noise of one standard deviation, evaluation decodes the mean.

    The noise keeps neighbouring latents alike without a KL loss (github.com/cloneofsimo/vqgan-training).

    Args:
        std (float): of the noise, in units of the raw latents.

    Raises:
        SettingError: ``std`` is no number from 1e-6 to 1e4.
    """

    distribution = FixedVarianceGaussian

    def __init__(self, std=0.1):
        super().__init__()
        if not is_number(std, *STD_RANGE):
            raise SettingError(f'std={std!r}: a number from {STD_RANGE[0]:g} to {STD_RANGE[1]:g} is needed, such as '
                               "0.1; without noise it is dict(type='DeterministicPosterior')")
        self.std = std

    def forward(self, encoded):
        return FixedVarianceGaussian(at_least_float32(encoded), self.std)


@POSTERIORS.register_module()
class DeterministicPosterior(PosteriorKind):
    """The encoder gives the latents themselves: a plain autoencoder, as MAETok (arXiv 2502.03444). No KL."""

    distribution = PointMass

    def forward(self, encoded):
        return PointMass(at_least_float32(encoded))


def build_posterior(cfg=None):
    """POSTERIORS config, or None for the Gaussian -> the layer."""
    return POSTERIORS.build(cfg or dict(type='GaussianPosterior'))


def at_least_float32(x):
    """bf16 and fp16 become float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
