"""A trained autoencoder in a user's hands."""

import torch

from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.models.latents import LatentStatistics
from wfvae_toolkit.models.tiling import set_tiling
from wfvae_toolkit.utils.device import default_device


class Reconstructor:
    """Encodes pictures to normalised latents and decodes them.

    Args:
        autoencoder (nn.Module): an AUTOENCODERS part.
        statistics (LatentStatistics): of its latents; None: latents stay raw.
        device (str | torch.device): None: a GPU if there is one.
        dtype (torch.dtype): of weights and activations.
        tiling (str | bool | dict): ``'auto'``: pictures of more than 2^21 pixels; True or settings of
            ``enable_tiling``; False: never.
    """

    def __init__(self, autoencoder, statistics=None, device=None, dtype=torch.float32, tiling='auto'):
        self.device = torch.device(device or default_device())
        self.dtype = dtype
        self.autoencoder = autoencoder.to(self.device, dtype).eval().requires_grad_(False)
        set_tiling(self.autoencoder, tiling)
        self.statistics = statistics or LatentStatistics.identity(autoencoder.latent_channels)

    @classmethod
    def from_pretrained(cls, path, weights='ema', device=None, dtype=torch.float32, tiling='auto'):
        """Any MODEL that ``wfvae_toolkit.checkpoints.read_model`` recognises."""
        model = read_model(path, weights)
        return cls(model.build(), model.statistics, device, dtype, tiling)

    @torch.inference_mode()
    def encode(self, images, sample=False, generator=None):
        """Pictures -> normalised latents (B, C, H/f, W/f): the posterior's mean, or a ``sample`` of it."""
        posterior = self.autoencoder.encode(images.to(self.device, self.dtype)).latent_dist
        return self.statistics.normalize(posterior.sample(generator) if sample else posterior.mode())

    @torch.inference_mode()
    def decode(self, latents):
        """Normalised latents (B, C, h, w) -> images (B, 3, f*h, f*w) in [-1, 1]."""
        raw = self.statistics.denormalize(latents.to(self.device))
        return self.autoencoder.decode(raw.to(self.dtype)).sample.clamp(-1, 1)

    def reconstruct(self, images):
        """Pictures -> their reconstructions through the posterior's mean, (B, 3, H, W) in [-1, 1]."""
        return self.decode(self.encode(images))
