"""Whether moving the latents moves the picture (EQ-VAE, Kouzelis et al. 2025, arXiv 2502.09509)."""

import torch
import torch.nn.functional as F

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.device import as_float64
from wfvae_toolkit.utils.errors import SettingError

from .latent_metrics import decode_pictures
from .metric import Metric, UnfitPicture


class _Equivariance(Metric):
    """Columns ``image`` and ``latent``; a subclass gives ``transform``, T.

    image: RMS of decode(T(z)) - T(x) in [0, 1] values. The reconstruction's own error is in it: 10^(-PSNR/20).
    latent: RMS of encode(T(x)) - T(z), over the standard deviation of encode(T(x)) within its channels.
    x is the image, z = encode(x); encode is the posterior's mean. An image that had to be padded for the network is
    not scored, because its padding would move to another side.
    """

    higher_is_better = False

    def __init__(self, title):
        super().__init__()
        self.description = (f'{title} T: RMS of decode(T(z)) - T(x) in [0, 1]; RMS of encode(T(x)) - T(z) over the std '
                            'of encode(T(x))')

    def measure(self, batch):
        picture, latents = self.transform(batch.target), self.transform(batch.need('latents'))
        decoded = decode_pictures(batch, latents)
        if decoded.shape != picture.shape:
            height, width = batch.target.shape[-2:]
            raise UnfitPicture(f'{width}x{height} px: {type(self).__name__} needs images whose sides the '
                               "autoencoder's factor divides; --crop cuts them to such a size")
        encoded = batch.need('autoencoder').encode(2 * picture - 1).latent_dist.mode()
        spread = encoded - encoded.mean((2, 3), keepdim=True)
        return {'image': _rms(decoded - picture), 'latent': _rms(encoded - latents) / _rms(spread)}

    def transform(self, x):
        """(B, C, H, W) -> the same, moved; of images and of latents."""
        raise NotImplementedError


@METRICS.register_module()
class RotationEquivariance(_Equivariance):
    """Columns ``image`` and ``latent``: errors under turns by 90 degrees, which need no interpolation.

    Args:
        quarter_turns (int): 1 to 3, counter-clockwise.

    Raises:
        SettingError: another number.
    """

    def __init__(self, quarter_turns=1):
        if quarter_turns not in (1, 2, 3):
            raise SettingError(f'RotationEquivariance: quarter_turns={quarter_turns!r}; use 1, 2 or 3')
        super().__init__(f'rotation by {90 * quarter_turns} degrees')
        self.quarter_turns = quarter_turns

    def transform(self, x):
        return torch.rot90(x, self.quarter_turns, (-2, -1))


@METRICS.register_module()
class ScaleEquivariance(_Equivariance):
    """Columns ``image`` and ``latent``: errors under scaling, by antialiased bilinear interpolation of both.

    Bilinear, because it leaves no value outside the range of the picture.

    Args:
        factor (float): new size over old; below 1 as in the paper.

    Raises:
        SettingError: not above 0; UnfitPicture: latents whose size times ``factor`` is no whole number.
    """

    def __init__(self, factor=0.5):
        if factor <= 0:
            raise SettingError(f'ScaleEquivariance: factor={factor!r}; a number above 0')
        super().__init__(f'scaling by {factor:g}')
        self.factor = factor

    def transform(self, x):
        size = [round(self.factor * edge) for edge in x.shape[-2:]]
        if any(abs(self.factor * edge - new) > 1e-6 for edge, new in zip(x.shape[-2:], size, strict=True)):
            raise UnfitPicture(f'ScaleEquivariance: {self.factor:g} times {x.shape[-1]}x{x.shape[-2]} positions are '
                               'not whole numbers; use images of another size or another factor')
        return F.interpolate(x, size, mode='bilinear', antialias=True)


def _rms(x):
    """(B, C, H, W) -> (B,) float64."""
    return as_float64(x).square().mean((1, 2, 3)).sqrt()
