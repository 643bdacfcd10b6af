"""What may stand between the posterior's sample and the decoder while training: functions of latents and seeds.

``model.latent_transforms`` is a list of them, applied in its order. Validation, tools and exports decode the
posterior's mode as it is.
"""

import torch

from wfvae_toolkit.registry import LATENT_TRANSFORMS
from wfvae_toolkit.utils.errors import SettingError, is_number
from wfvae_toolkit.utils.seeding import mix_seed


class LatentTransform:
    """Base of the transforms; a subclass gives ``transform``.

    A transform keeps no state. What it does to an image depends on the image's latents and seed alone, so that neither
    the batch, nor the rank, nor a resumed run changes it.
    """

    def __call__(self, latents, seeds, place=0):
        """(B, C, h, w) and one seed an image -> (B, C, h, w). ``place`` in the list: equal transforms differ in it."""
        rows = [self.transform(image, torch.Generator().manual_seed(mix_seed('latent transform', seed, place)))
                for image, seed in zip(latents, seeds, strict=True)]
        return torch.stack(rows)

    def transform(self, latents, generator):
        """(C, h, w) of one image -> the same shape; random numbers come from ``generator``, on the CPU."""
        raise NotImplementedError


@LATENT_TRANSFORMS.register_module()
class NoisyLatents(LatentTransform):
    """z + sigma * noise, sigma uniform in [0, ``max_std``] for each image (RAE, arXiv 2510.11690).

    The noise is standard normal. The decoder then bears the errors of a sampler. RAE takes 0.8, for
    latents of unit variance.

    Args:
        max_std (float): largest sigma.
        relative (bool): in units of the standard deviation of the image's own latents, for latents of another scale.

    Raises:
        SettingError: ``max_std`` is not above 0.
    """

    def __init__(self, max_std=0.8, relative=False):
        _check_above_zero('NoisyLatents: max_std', max_std)
        self.max_std, self.relative = max_std, relative

    def transform(self, latents, generator):
        std = self.max_std * torch.rand(1, generator=generator)
        noise = (std * torch.randn(latents.shape, generator=generator)).to(latents)
        if self.relative:
            noise = noise * latents.detach().float().std().to(latents)
        return latents + noise


@LATENT_TRANSFORMS.register_module()
class InterpolatedLatents(LatentTransform):
    """(1 - t) * z + t * ``std`` * noise, t uniform in [0, 1] for each image (l-DeTok, arXiv 2507.15856).

    Args:
        std (float): of the noise, gamma in the paper.

    Raises:
        SettingError: ``std`` is not above 0.
    """

    def __init__(self, std=3.0):
        _check_above_zero('InterpolatedLatents: std', std)
        self.std = std

    def transform(self, latents, generator):
        share = torch.rand(1, generator=generator)
        noise = share * self.std * torch.randn(latents.shape, generator=generator)
        return (1 - share).to(latents) * latents + noise.to(latents)


@LATENT_TRANSFORMS.register_module()
class ChannelPrefix(LatentTransform):
    """The first c channels of each image, zero in the others; c is drawn evenly from ``channels``.

    The first channels then hold the structure, the later ones details (DC-AE 1.5, arXiv 2508.00413). The metric
    PSNRByChannels measures it.

    Args:
        channels (tuple[int]): numbers of channels to keep, such as (4, 8).

    Raises:
        SettingError: none, or one below 1; while training: one above the number of channels that there are.
    """

    def __init__(self, channels):
        self.channels = checked_counts('ChannelPrefix', channels)

    def transform(self, latents, generator):
        check_available('ChannelPrefix', self.channels, len(latents))
        kept = self.channels[int(torch.randint(len(self.channels), (1,), generator=generator))]
        return keep_channels(latents, kept)


def checked_counts(owner, channels):
    """Numbers of channels to keep -> tuple; SettingError, which names ``owner``, for none or one below 1."""
    if not channels or not all(is_number(count, 1, whole=True) for count in channels):
        raise SettingError(f'{owner}: channels={channels!r}: numbers of channels are needed, such as (4, 8)')
    return tuple(channels)


def check_available(owner, channels, available):
    """SettingError, which names ``owner``, if more channels are to be kept than there are."""
    if max(channels) > available:
        raise SettingError(f'{owner}: channels={channels} of {available} latent channels')


def keep_channels(latents, count):
    """(..., C, h, w) -> the same with zeros in all channels but the first ``count``."""
    mask = torch.zeros(latents.shape[-3], 1, 1)
    mask[:count] = 1
    return latents * mask.to(latents)


def _check_above_zero(name, value):
    if not is_number(value) or not value > 0:
        raise SettingError(f'{name}={value!r}: a number above 0 is needed')
