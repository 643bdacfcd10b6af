"""A row of the training's objective as a metric, so that runs with and without it compare."""

import zlib

import torch

from wfvae_toolkit.losses import Step
from wfvae_toolkit.registry import LOSSES, METRICS
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.seeding import mix_seed

from .metric import Metric, UnfitPicture


@METRICS.register_module()
class LossValue(Metric):
    """Value of a loss row for one image without its weight, over C*H*W: ``per_pixel/NAME`` of the training's log.

    The row sees the posterior's mean as latents, and the reconstruction as it is scored: clamped, by default rounded.
    Its random numbers depend on the image's path.

    Args:
        loss (dict): LOSSES config.

    Raises:
        SettingError: a row of the discriminator, or one that needs it.
        UnfitPicture: the row decodes again, and the image was padded for the network.
    """

    higher_is_better = False

    def __init__(self, loss):
        super().__init__()
        self.loss = LOSSES.build(loss)
        kind = type(self.loss).__name__
        if self.loss.needs_discriminator:
            raise SettingError(f'LossValue: {kind} needs a discriminator, which no evaluation has; use another row')
        self.description = f'{kind} of the training, divided by C*H*W, {self.loss.__doc__.splitlines()[0].rstrip(".")}'

    def measure(self, batch):
        if self.loss.needs_autoencoder:
            factor, (height, width) = batch.need('autoencoder').downsample_factor, batch.target.shape[-2:]
            if [factor * side for side in batch.latents.shape[-2:]] != [height, width]:
                raise UnfitPicture(f'{width}x{height} px: {type(self.loss).__name__} needs images whose sides the '
                                   "autoencoder's factor divides; --crop cuts them to such a size")
        return torch.stack([self._one(batch, number) for number in range(len(batch.target))])

    def _one(self, batch, number):
        own = slice(number, number + 1)
        posterior = batch.latent_dist
        step = Step(
            target=2 * batch.target[own] - 1, reconstruction=2 * batch.reconstruction[own] - 1,
            latent_dist=posterior and posterior.replace([tensor[own] for tensor in posterior.tensors]),
            latents=None if batch.latents is None else batch.latents[own], autoencoder=batch.autoencoder,
            seeds=(mix_seed('evaluation', zlib.crc32(batch.paths[number].encode())),))
        return self.loss(step).double() / step.values_per_image
