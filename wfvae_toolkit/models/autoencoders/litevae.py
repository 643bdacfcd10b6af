"""A baseline after LiteVAE (Sadat et al. 2024, arXiv 2405.14477): an encoder on wavelet bands, an ordinary decoder.

From the paper (section 4, figure 2): the image's wavelet levels each go through a small UNet without resampling, and
another one makes the latents of their features; the decoder is that of Stable Diffusion. Not from the paper: how the
levels come to the latents' size (strided convs), the norms (any; the paper's decoder has self-modulated convs), the
widths. Its scores are not the paper's.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.registry import AUTOENCODERS, MID_BLOCKS, NORM_LAYERS, WAVELETS
from wfvae_toolkit.utils.errors import SettingError

from ..layers import NearestUpsample, ResidualBlock, StridedDownsample
from ..posterior import at_least_float32, build_posterior
from .checks import check_image, check_latents
from .outputs import DecoderOutput, EncoderOutput
from .wfvae2 import BAND_CHANNELS, DEFAULT_MID, IMAGE_CHANNELS


@AUTOENCODERS.register_module()
class LiteVAE(nn.Module):
    """(B, 3, H, W) in [-1, 1] <-> latents (B, latent_channels, H/f, W/f), f = 2^(len(decoder_widths) - 1); no bands.

    Args:
        latent_channels (int): channels of the latent.
        extractor_widths (list[int]): of the UNet on each wavelet level.
        aggregator_widths (list[int]): of the UNet on all levels' features.
        decoder_widths (list[int]): decoder channels, image to latent; each step halves the size.
        decoder_layers (int): residual blocks at each size.
        wavelet (dict): WAVELETS config.
        norm (dict): NORM_LAYERS config.
        mid_blocks (list[dict]): MID_BLOCKS configs of the decoder, at the latent's size.
        posterior (dict): POSTERIORS config; None: GaussianPosterior.

    Raises:
        SettingError: no width, or fewer than two of the decoder.
    """

    def __init__(self, latent_channels=8, extractor_widths=(32, 64, 96), aggregator_widths=(64, 128, 192),
                 decoder_widths=(128, 256, 512, 512), decoder_layers=2, wavelet=None, norm=None,
                 mid_blocks=DEFAULT_MID, posterior=None):
        super().__init__()
        if not extractor_widths or not aggregator_widths or len(decoder_widths) < 2:
            raise SettingError(f'extractor_widths={extractor_widths!r}, aggregator_widths={aggregator_widths!r}: one '
                               f'or more; decoder_widths={decoder_widths!r}: two or more (4 give 8x downsampling)')
        norm = norm or dict(type='LayerNorm2d')
        levels = len(decoder_widths) - 1
        self.latent_channels = latent_channels
        self.downsample_factor = 2**levels
        self.posterior_kind = build_posterior(posterior)
        self.encoder = LiteEncoder(self.posterior_kind.encoder_channels(latent_channels), levels, extractor_widths,
                                   aggregator_widths, WAVELETS.build(wavelet or dict(type='Haar')), norm)
        self.decoder = LiteDecoder(latent_channels, decoder_widths, decoder_layers, mid_blocks, norm)
        self.to(memory_format=torch.channels_last)

    @property
    def last_layer(self):
        """Weight of the decoder's last conv."""
        return self.decoder.conv_out.weight

    def encode(self, x):
        """(B, 3, H, W) in [-1, 1] -> EncoderOutput without bands. SettingError unless f divides H and W."""
        check_image(x, self.downsample_factor)
        return EncoderOutput(self.posterior_kind(self.encoder(x)))

    def decode(self, z):
        """(B, latent_channels, H/f, W/f) -> DecoderOutput without bands."""
        check_latents(z, self.latent_channels)
        return DecoderOutput(at_least_float32(self.decoder(z)))

    def forward(self, x):
        """Reconstruct through the posterior's mean."""
        return self.decode(self.encode(x).latent_dist.mode()).sample


class LiteEncoder(nn.Module):
    """Image (B, 3, H, W) -> what the posterior reads (B, channels, H/f, W/f), from its wavelet levels."""

    def __init__(self, channels, levels, extractor_widths, aggregator_widths, wavelet, norm):
        super().__init__()
        self.wavelet = wavelet
        self.extractors = nn.ModuleList(LightUNet(BAND_CHANNELS, BAND_CHANNELS, extractor_widths, norm)
                                        for _ in range(levels))
        # Level 0 has half the image's size, the last one the latents'.
        self.downsamplers = nn.ModuleList(
            nn.Sequential(*(StridedDownsample(BAND_CHANNELS) for _ in range(levels - 1 - level)))
            for level in range(levels))
        self.aggregator = LightUNet(levels * BAND_CHANNELS, channels, aggregator_widths, norm)

    def forward(self, x):
        features, low = [], x
        for extractor, downsample in zip(self.extractors, self.downsamplers, strict=True):
            bands = self.wavelet.analyze(low)
            features.append(downsample(extractor(bands.contiguous(memory_format=torch.channels_last))))
            low = bands[:, :IMAGE_CHANNELS]
        return self.aggregator(torch.cat(features, dim=1))


class LightUNet(nn.Module):
    """(B, channels, H, W) -> (B, out_channels, H, W): residual blocks of growing width and back, at one size.

    Each block on the way back also sees the output of its counterpart.
    """

    def __init__(self, channels, out_channels, widths, norm):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(before, norm, out_channels=after)
                                  for before, after in pairwise([widths[0], *widths]))
        self.mid = ResidualBlock(widths[-1], norm)
        self.up = nn.ModuleList(ResidualBlock(2 * after, norm, out_channels=before)
                                for before, after in reversed(list(pairwise([widths[0], *widths]))))
        self.norm_out = NORM_LAYERS.build(norm, channels=widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        skips = []
        for block in self.down:
            h = block(h)
            skips.append(h)
        h = self.mid(h)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], dim=1))
        return self.conv_out(F.silu(self.norm_out(h)))


class LiteDecoder(nn.Module):
    """Latents (B, latent_channels, h, w) -> image (B, 3, f*h, f*w)."""

    def __init__(self, latent_channels, widths, layers, mid_blocks, norm):
        super().__init__()
        self.conv_in = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.mid = nn.Sequential(*(MID_BLOCKS.build(cfg, channels=widths[-1], norm=norm) for cfg in mid_blocks))
        stages, before = [], widths[-1]
        for number, width in enumerate(reversed(widths)):
            stages += [NearestUpsample(before)] if number else []
            stages += [ResidualBlock(before if i == 0 else width, norm, out_channels=width) for i in range(layers)]
            before = width
        self.stages = nn.Sequential(*stages)
        self.norm_out = NORM_LAYERS.build(norm, channels=widths[0])
        self.conv_out = nn.Conv2d(widths[0], IMAGE_CHANNELS, 3, padding=1)

    def forward(self, z):
        h = self.stages(self.mid(self.conv_in(z)))
        return self.conv_out(F.silu(self.norm_out(h)))
