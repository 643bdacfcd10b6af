"""Metrics of the latents of one image: statistics of their channels, KL, and PSNR when noise is added to them."""

import zlib

from wfvae_toolkit.models.latent_statistics import ACTIVE_KL_NATS, active_channels
from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.device import as_float64
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.seeding import mix_seed, standard_normal

from .metric import Metric
from .psnr import psnr


@METRICS.register_module()
class LatentChannels(Metric):
    """Columns ``mean.00``, ``std.00``, ``kl.00`` and so on, one of each per latent channel.

    ``mean`` and ``std`` (population) describe the posterior's mean over the positions of one image. ``kl`` is the KL
    from the standard normal, in nats per position; a posterior without KL gives no such column. The standard deviation
    over a whole data set is larger, because the means of its images differ.
    """

    higher_is_better = None
    description = "mean and std of the posterior's mean over positions, KL in nats per position, for each channel"

    def measure(self, batch):
        latents = as_float64(batch.need('latents'))
        values = {'mean': latents.mean((2, 3)), 'std': latents.std((2, 3), correction=0)}
        if batch.need('latent_dist').least_kl is not None:
            values['kl'] = _channel_kl(batch)
        return {f'{name}.{channel:02}': row for name, rows in values.items() for channel, row in enumerate(rows.T)}


@METRICS.register_module()
class LatentKL(Metric):
    """KL of the posterior from the standard normal in nats per position, summed over channels."""

    higher_is_better = None
    description = 'KL from the standard normal, nats per position, summed over channels'

    def measure(self, batch):
        return _channel_kl(batch).sum(1)


@METRICS.register_module()
class ActiveChannels(Metric):
    """Number of active channels of an image: KL above ``threshold`` nats per position; see `active_channels`.

    With a fixed variance every channel has some KL; what it has above that counts.
    """

    higher_is_better = None

    def __init__(self, threshold=ACTIVE_KL_NATS):
        super().__init__()
        self.threshold = threshold
        self.description = f'latent channels with a KL above {threshold} nats per position'

    def measure(self, batch):
        kl = _channel_kl(batch)
        return as_float64(active_channels(kl, batch.latent_dist.least_kl, self.threshold).sum(1))


@METRICS.register_module()
class LatentNoise(Metric):
    """PSNR in dB of what is decoded from z + sigma * std * n, one column per sigma, such as ``LatentNoise.0.1``.

    std is that of each channel over the positions of the image, so that a sigma means the same for every model. n is
    standard normal and depends only on the image's path, so that models whose latents have the same shape see the
    same noise.

    Args:
        sigmas (Sequence[float]): noise levels relative to the std of the latents; 0 gives the PSNR of the
            reconstruction without rounding to 8 bits.

    Raises:
        SettingError: no sigmas, or a negative one.
    """

    higher_is_better = True

    def __init__(self, sigmas=(0.1, 0.5)):
        super().__init__()
        if not sigmas or min(sigmas) < 0:
            raise SettingError(f'LatentNoise: sigmas={sigmas!r}; use one or more numbers, each 0 or above')
        self.sigmas = tuple(sigmas)
        self.description = ('PSNR in dB decoded from latents with Gaussian noise of '
                            f'{", ".join(map(str, self.sigmas))} times their std in the image, not rounded')

    def measure(self, batch):
        latents = batch.need('latents')
        seeds = [mix_seed('evaluation', zlib.crc32(path.encode())) for path in batch.paths]
        noise = standard_normal(latents.shape[1:], seeds).to(latents)
        noise = noise * latents.std((2, 3), correction=0, keepdim=True)
        height, width = batch.target.shape[-2:]  # the image may have been padded before it was encoded
        return {f'{sigma:g}': psnr(decode_pictures(batch, latents + sigma * noise)[..., :height, :width], batch.target)
                for sigma in self.sigmas}


def decode_pictures(batch, latents):
    """Latents -> (B, 3, H, W) in [0, 1], clamped and not rounded, by the batch's autoencoder."""
    return (batch.need('autoencoder').decode(latents).sample.float().clamp(-1, 1) + 1) / 2


def _channel_kl(batch):
    """(B, C) float64, nats per position."""
    return as_float64(batch.need('latent_dist').kl()).mean((2, 3))
