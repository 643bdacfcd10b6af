"""Rows on wavelet bands: of the network's pyramids, of pictures, of latents."""

import torch

from wfvae_toolkit.models.wavelets import PixelUnshuffle, split_bands
from wfvae_toolkit.registry import LOSSES, WAVELETS
from wfvae_toolkit.utils.errors import SettingError, is_number
from wfvae_toolkit.utils.seeding import drawn_seeds, mix_seed

from .base import Loss, in_full_precision, sum_per_image


@LOSSES.register_module()
class WaveletFlowLoss(Loss):
    """sum over stages of sum |encoder bands - decoder bands| per image (WF-VAE, arXiv 2411.17459, section 3.2).

    Raises:
        SettingError: the autoencoder gives no bands (no energy flow), or encoder and decoder give different numbers.
    """

    def __init__(self, weight=0.1):
        super().__init__(weight)

    def forward(self, step):
        encoder, decoder = step.encoder_bands, step.decoder_bands[::-1]
        if not encoder or len(encoder) != len(decoder):
            raise SettingError(f'the autoencoder gives {len(encoder)} encoder and {len(decoder)} decoder bands; the '
                               'wavelet loss needs as many of both: turn energy_flow on or set losses.wavelet=None')
        return sum(sum_per_image((up - down).abs()) for up, down in zip(encoder, decoder, strict=True))


class _WaveletRow(Loss):
    """A row with a wavelet of its own and a number of its levels."""

    def __init__(self, weight, levels, wavelet):
        super().__init__(weight)
        if not is_number(levels, 1, whole=True):
            raise SettingError(f'{type(self).__name__}: levels={levels!r}; a whole number from 1 is needed')
        self.levels = levels
        self.wavelet = WAVELETS.build(wavelet or dict(type='Haar'))

    def check_size(self, x, what):
        """SettingError unless ``levels`` levels halve (B, C, H, W) without a rest."""
        height, width = x.shape[-2:]
        if height % 2**self.levels or width % 2**self.levels:
            raise SettingError(f'{type(self).__name__}: levels={self.levels} needs {what} whose sides are multiples of '
                               f'{2**self.levels}; here they are {width}x{height}')


@LOSSES.register_module()
class WaveletBandLoss(_WaveletRow):
    """sum over ``levels`` of sum |detail bands of the target - of the reconstruction| per image.

    The details LH, HL and HH of an orthonormal wavelet, each level of the low band of the one before. The lowest band
    is left to the pixel row: an error that is the same everywhere counts nothing.

    Args:
        levels (int): of the wavelet transform, the finest first.
        wavelet (dict): WAVELETS config; None: Haar.

    Raises:
        SettingError: ``levels`` is below 1, or the images' sides are no multiples of 2^``levels``.
    """

    def __init__(self, weight=1.0, levels=3, wavelet=None):
        super().__init__(weight, levels, wavelet)

    def forward(self, step):
        self.check_size(step.target, 'images')
        total = 0.0
        with in_full_precision(step.target, step.reconstruction) as (target, reconstruction):
            low = target - reconstruction  # the transform is linear
            for _ in range(self.levels):
                low, *details = split_bands(self.wavelet.analyze(low))
                total = total + sum(sum_per_image(band.abs()) for band in details)
        return total


@LOSSES.register_module()
class SpectralRegularizationLoss(_WaveletRow):
    """sum |D(L(z)) - L(x)| per image: latents without their finest details, decoded, against the image without its own.

    L is the low-pass filter of a wavelet: it sets the details of the finest k levels to 0 and transforms back to the
    full size. Each image draws k from 1 to ``levels`` by its seed. Fine structure of the latents then only holds fine
    structure of the image, so the latents' high frequencies carry less power. The metric LatentSpectrum measures it.
    The row decodes once more.

    After the spectral self-regularization of Denoising-VAE (Xiang et al. 2025, arXiv 2511.12633): low-passed latents
    at several levels. Wavelet, target and draw are our choice.

    Args:
        levels (int): largest number of wavelet levels whose details are removed.
        wavelet (dict): WAVELETS config; None: Haar.

    Raises:
        SettingError: ``levels`` is below 1, the wavelet has no low-pass band, or the latents' sides are no multiples
            of 2^``levels``.
    """

    needs_autoencoder = True

    def __init__(self, weight=1.0, levels=2, wavelet=None):
        super().__init__(weight, levels, wavelet)
        if isinstance(self.wavelet, PixelUnshuffle):
            raise SettingError('SpectralRegularizationLoss: PixelUnshuffle has no low-pass band; use Haar or a '
                               'DiscreteWavelet')

    def forward(self, step):
        latents, target = self.pairs(step)
        return sum_per_image((step.autoencoder.decode(latents).sample - target).abs())

    def pairs(self, step):
        """(L(z), L(x)) of all images, in float32."""
        self.check_size(step.latents, 'latents')
        levels = self.draw(step)
        with in_full_precision(step.latents, step.target) as tensors:
            return [torch.cat([low_pass(row[None], self.wavelet, level) for row, level in zip(x, levels, strict=True)])
                    for x in tensors]

    def draw(self, step):
        """Number of levels of each image, a list."""
        # No tensor: a forecast of memory runs rows without numbers.
        return [1 + mix_seed('loss', seed) % self.levels for seed in step.seeds or drawn_seeds(len(step.target))]


def low_pass(image, wavelet, levels):
    """(B, C, H, W) -> the same size, without the details (LH, HL, HH) of the finest ``levels`` of the wavelet."""
    if not levels:
        return image
    low, *details = split_bands(wavelet.analyze(image))
    return wavelet.synthesize(torch.cat([low_pass(low, wavelet, levels - 1), *map(torch.zeros_like, details)], dim=1))
