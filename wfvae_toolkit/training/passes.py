"""The two forward passes that need gradients, each one module so that DDP can wrap it."""

import contextlib
import inspect

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from wfvae_toolkit.utils.device import to_device
from wfvae_toolkit.utils.seeding import drawn_seeds, mix_seed, standard_normal


class AutoencoderPass(nn.Module):
    """Images -> (reconstruction, tensors of the posterior, latents, encoder bands, decoder bands, posterior).

    DDP finds the tensors in the tuple. The posterior is there to be made anew of other tensors, by ``replace``.

    Args:
        autoencoder (nn.Module): the network.
        latent_transforms (list[LatentTransform]): applied to the sampled latents before they are decoded.
    """

    def __init__(self, autoencoder, latent_transforms=()):
        super().__init__()
        self.autoencoder = autoencoder
        self.latent_transforms = tuple(latent_transforms)

    def forward(self, images, sample_posterior=True, sample_seeds=None):
        """``sample_seeds``: one integer an image fixes its posterior noise; None draws from torch's generator."""
        encoded = self.autoencoder.encode(images)
        posterior = encoded.latent_dist
        if not sample_posterior:
            latents = posterior.mode()
        elif sample_seeds is None:
            latents = posterior.sample()
        else:
            seeds = [mix_seed('posterior', seed) for seed in sample_seeds]
            noise = standard_normal(posterior.mean.shape[1:], seeds)
            latents = posterior.sample(noise=to_device(noise, posterior.mean.device))
        if self.latent_transforms and sample_seeds is None:
            sample_seeds = drawn_seeds(len(images))
        for place, transform in enumerate(self.latent_transforms):
            latents = transform(latents, sample_seeds, place)
        decoded = self.autoencoder.decode(latents)
        return decoded.sample, posterior.tensors, latents, tuple(encoded.bands), tuple(decoded.bands), posterior


class DiscriminatorPass(nn.Module):
    """(real, fake) -> their scores; two passes, real first, as the spectral norm's power iteration counts them."""

    def __init__(self, discriminator):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real, fake):
        return self.discriminator(real), self.discriminator(fake)


# Its name in older versions of torch is broadcast_buffers.
_SYNC_BUFFERS = next(name for name in ('forward_sync_buffers', 'broadcast_buffers')
                     if name in inspect.signature(DistributedDataParallel).parameters)


def distribute(network_pass, **options):
    """Wrap a pass in DDP: gradients averaged over ranks after backward, buffers left alone."""
    # Buffers (power iteration) see the same weights on every rank and stay equal by themselves.
    return DistributedDataParallel(network_pass, gradient_as_bucket_view=True, **{_SYNC_BUFFERS: False}, **options)


def gradient_sync(network_pass, last_micro_batch):
    """Context for forward *and* backward: DDP all-reduces only in the last micro-batch."""
    if isinstance(network_pass, DistributedDataParallel) and not last_micro_batch:
        return network_pass.no_sync()
    return contextlib.nullcontext()

