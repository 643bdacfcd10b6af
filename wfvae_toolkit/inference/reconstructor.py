"""A trained autoencoder in a user's hands."""

import numpy as np
import torch
from PIL import Image

from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.models.sizes import fit_to_factor
from wfvae_toolkit.models.tiling import set_tiling
from wfvae_toolkit.utils.device import find_device
from wfvae_toolkit.utils.errors import NotFinite, SettingError, is_number
from wfvae_toolkit.utils.finite import all_finite, check_finite
from wfvae_toolkit.utils.pixels import to_bytes

from .inputs import picture_names, to_batch


class Reconstructor:
    """Encodes pictures of any size to normalised latents and decodes them. Nothing it computes has a gradient.

    ``images`` are whatever ``wfvae_toolkit.inference.inputs.to_batch`` takes: paths, PIL images, arrays, tensors,
    single, as batches or as lists. Their latents and images are checked once a batch: NaN or infinity is an error.

    Args:
        autoencoder (nn.Module): an AUTOENCODERS part.
        statistics (LatentStatistics): of its latents; None: latents stay raw.
        device (str | torch.device): None: a GPU if there is one.
        dtype (torch.dtype): of weights and activations; results are float32.
        compile (bool): compile encoder and decoder with ``torch.compile``, once for every size of picture.
        tiling (str | bool | dict): ``'auto'``: pictures of more than 2^21 pixels; True or settings of
            ``enable_tiling``; False: never.

    Raises:
        SettingError: a device that is not there, a dtype that is none of floats, or statistics of other channels.
    """

    def __init__(self, autoencoder, statistics=None, device=None, dtype=torch.float32, compile=False, tiling='auto'):
        self.device = find_device(device)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise SettingError(f'dtype={dtype!r}: use torch.float32, torch.bfloat16 or torch.float16')
        self.dtype = dtype
        self.autoencoder = autoencoder.to(self.device, dtype).eval().requires_grad_(False)
        set_tiling(self.autoencoder, tiling)
        self.statistics = statistics or LatentStatistics.identity(autoencoder.latent_channels)
        if len(self.statistics.mean) != autoencoder.latent_channels:
            raise SettingError(f'statistics of {len(self.statistics.mean)} channels for an autoencoder of '
                               f'{autoencoder.latent_channels}')
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
            SettingError: what is no picture.
            MissingFile: a path that is not there.
            NotFinite: a latent is NaN or infinite; the message names picture, stage and dtype.
        """
        latents = self._encode(to_batch(images, self.device), sample, generator)
        check_finite({'encoder': latents}, self.dtype, picture_names(images, len(latents)))
        return latents

    def decode(self, latents, size=None):
        """Normalised latents (B, C, h, w) or (C, h, w) -> float32 images (B, 3, f*h, f*w) in [-1, 1].

        Args:
            latents (Tensor | ndarray): as of ``encode``, floats.
            size (tuple[int, int]): (height, width) of the picture that was encoded, to cut off what filled it up.

        Raises:
            SettingError: another type or shape, or a size larger than the image.
            NotFinite: a latent or a value of an image is NaN or infinite.
        """
        latents = self._to_latents(latents)
        height, width = (side * self.autoencoder.downsample_factor for side in latents.shape[-2:])
        if size is not None and not (isinstance(size, (tuple, list)) and len(size) == 2 and is_number(
                size[0], 1, height, whole=True) and is_number(size[1], 1, width, whole=True)):
            raise SettingError(f'size={size!r}: (height, width) up to {(height, width)} can be cut from these latents')
        images = self._decode(latents)
        try:
            check_finite({'decoder': images}, self.dtype)
        except NotFinite:
            if all_finite(latents):
                raise
            raise NotFinite('the latents hold NaN or infinity, so they have no image') from None
        return images.clamp(-1, 1)[..., :height if size is None else size[0], :width if size is None else size[1]]

    def reconstruct(self, images, names=None):
        """Pictures -> their reconstructions through the posterior's mean, (B, 3, H, W) in [-1, 1], of their size.

        Args:
            images: see the class.
            names (list[str]): of the pictures, for errors; None: their paths, or their numbers.

        Raises:
            SettingError, MissingFile, NotFinite: as of ``encode`` and ``decode``.
        """
        batch = to_batch(images, self.device)
        latents = self._encode(batch)
        result = self._decode(latents)
        check_finite({'encoder': latents, 'decoder': result}, self.dtype,
                     names or picture_names(images, len(batch)))
        return result.clamp(-1, 1)[..., :batch.shape[-2], :batch.shape[-1]]

    @staticmethod
    def to_pictures(images):
        """(B, 3, H, W) or (3, H, W) in [-1, 1] -> list of PIL images, rounded to the nearest of 256 levels.

        Raises:
            SettingError: another type or shape.
            NotFinite: a value is NaN or infinite.
        """
        if not isinstance(images, torch.Tensor) or not images.is_floating_point() or (
                images.ndim not in (3, 4) or images.shape[-3] != 3):
            raise SettingError(f'{_describe(images)}: a float tensor (B, 3, H, W) or (3, H, W) in [-1, 1] is needed')
        images = images.detach() if images.ndim == 4 else images.detach()[None]
        if not all_finite(images):
            raise NotFinite('images that hold NaN or infinity cannot become pictures')
        return [Image.fromarray(picture) for picture in to_bytes(images).permute(0, 2, 3, 1).cpu().numpy()]

    def _to_latents(self, latents):
        """Latents as users hold them -> float32 (B, C, h, w) on the device."""
        channels = self.autoencoder.latent_channels
        if isinstance(latents, np.ndarray) and np.issubdtype(latents.dtype, np.floating):
            latents = torch.from_numpy(np.array(latents, np.float32, order='C'))
        if not isinstance(latents, torch.Tensor) or not latents.is_floating_point() or (
                latents.ndim not in (3, 4) or latents.shape[-3] != channels or not latents.numel()):
            raise SettingError(f'{_describe(latents)}: latents are floats (B, {channels}, h, w) or ({channels}, h, w), '
                               'a tensor or an array')
        return (latents if latents.ndim == 4 else latents[None]).to(self.device, torch.float32)

    # The passes through the network: whole pictures at once.
    # no_grad, not inference_mode: diffusion models train on these latents.

    @torch.no_grad()
    def _encode(self, batch, sample=False, generator=None):
        """Float images (B, 3, H, W) of any size -> normalised latents."""
        padded = fit_to_factor(batch, self.autoencoder.downsample_factor, 'pad')
        posterior = self.autoencoder.encode(padded.to(self.dtype)).latent_dist
        raw = posterior.sample(generator) if sample else posterior.mode()
        return self.statistics.normalize(raw.float())

    @torch.no_grad()
    def _decode(self, latents):
        """Float32 normalised latents (B, C, h, w) -> images, about [-1, 1]; not clamped, which would hide infinity."""
        raw = self.statistics.denormalize(latents)
        return self.autoencoder.decode(raw.to(self.dtype)).sample.float()


def _describe(value):
    """'torch.int64 of shape (1, 3, 8, 8)', or the type of what has neither."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f'{value.dtype} of shape {tuple(value.shape)}'
    return f'a {type(value).__name__}'
