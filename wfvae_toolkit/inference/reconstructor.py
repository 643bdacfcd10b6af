"""A trained autoencoder in a user's hands."""

import torch
from PIL import Image

from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.models.latents import LatentStatistics
from wfvae_toolkit.models.tiling import set_tiling
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.pictures import pad_to_multiple, to_bytes

from .inputs import to_batch


class Reconstructor:
    """Encodes pictures of any size to normalised latents and decodes them. Nothing it computes has a gradient.

    ``images`` are whatever ``wfvae_toolkit.inference.inputs.to_batch`` takes: paths, PIL images, arrays, tensors,
    single, as batches or as lists.

    Args:
        autoencoder (nn.Module): an AUTOENCODERS part.
        statistics (LatentStatistics): of its latents; None: latents stay raw.
        device (str | torch.device): None: a GPU if there is one.
        dtype (torch.dtype): of weights and activations; results are float32.
        compile (bool): compile encoder and decoder with ``torch.compile``, once for every size of picture.
        tiling (str | bool | dict): ``'auto'``: pictures of more than 2^21 pixels; True or settings of
            ``enable_tiling``; False: never.
    """

    def __init__(self, autoencoder, statistics=None, device=None, dtype=torch.float32, compile=False, tiling='auto'):
        self.device = torch.device(device or default_device())
        self.dtype = dtype
        self.autoencoder = autoencoder.to(self.device, dtype).eval().requires_grad_(False)
        set_tiling(self.autoencoder, tiling)
        self.statistics = statistics or LatentStatistics.identity(autoencoder.latent_channels)
        if compile:
            autoencoder.encoder.compile()
            autoencoder.decoder.compile()

    @classmethod
    def from_pretrained(cls, path, weights='ema', device=None, dtype=torch.float32, compile=False, tiling='auto'):
        """Any MODEL that ``wfvae_toolkit.checkpoints.read_model`` recognises; its averaged weights, or ``'raw'``."""
        model = read_model(path, weights)
        return cls(model.build(), model.statistics, device, dtype, compile, tiling)

    def encode(self, images, sample=False, generator=None):
        """Pictures -> float32 normalised latents (B, C, ceil(H/f), ceil(W/f)).

        Sides that the factor f does not divide are filled up by reflection, on the right and at the bottom.

        Args:
            images: see the class.
            sample (bool): a sample of the posterior instead of its mean.
            generator (torch.Generator): of that sample.

        Raises:
            SettingError: what is no picture; MissingFile: a path that is not there.
        """
        return self._encode(to_batch(images, self.device), sample, generator)

    def decode(self, latents, size=None):
        """Normalised latents (B, C, h, w) or (C, h, w) -> float32 images (B, 3, f*h, f*w) in [-1, 1].

        Args:
            latents (Tensor): as of ``encode``.
            size (tuple[int, int]): (height, width) of the picture that was encoded, to cut off what filled it up.

        Raises:
            SettingError: another shape, or a size larger than the image.
        """
        if latents.ndim not in (3, 4):
            raise SettingError(f'latents of shape {tuple(latents.shape)}: (B, C, h, w) or (C, h, w) is needed')
        images = self._decode(latents if latents.ndim == 4 else latents[None])
        if size is None:
            return images
        if not all(0 < wanted <= there for wanted, there in zip(size, images.shape[-2:], strict=True)):
            raise SettingError(f'size={tuple(size)}: (height, width) up to {tuple(images.shape[-2:])} can be cut from '
                               'these latents')
        return images[..., :size[0], :size[1]]

    def reconstruct(self, images):
        """Pictures -> their reconstructions through the posterior's mean, (B, 3, H, W) in [-1, 1], of their size."""
        batch = to_batch(images, self.device)
        return self.decode(self._encode(batch), batch.shape[-2:])

    @staticmethod
    def to_pictures(images):
        """(B, 3, H, W) or (3, H, W) in [-1, 1] -> list of PIL images, rounded to the nearest of 256 levels."""
        pixels = to_bytes(images if images.ndim == 4 else images[None]).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(picture) for picture in pixels]

    # The passes through the network: whole pictures at once.
    # no_grad, not inference_mode: diffusion models train on these latents.

    @torch.no_grad()
    def _encode(self, batch, sample=False, generator=None):
        """Float images (B, 3, H, W) of any size -> normalised latents."""
        padded = pad_to_multiple(batch, self.autoencoder.downsample_factor)
        posterior = self.autoencoder.encode(padded.to(self.dtype)).latent_dist
        raw = posterior.sample(generator) if sample else posterior.mode()
        return self.statistics.normalize(raw.float())

    @torch.no_grad()
    def _decode(self, latents):
        """Normalised latents (B, C, h, w) -> images in [-1, 1]."""
        raw = self.statistics.denormalize(latents.to(self.device, torch.float32))
        return self.autoencoder.decode(raw.to(self.dtype)).sample.float().clamp(-1, 1)
