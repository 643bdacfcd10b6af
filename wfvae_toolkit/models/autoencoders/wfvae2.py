"""WF-VAE 2 for images: a convolutional autoencoder with a wavelet energy flow beside it.

After WF-VAE (Li et al. 2024, arXiv 2411.17459). Encoder and decoder work on Haar bands. At every stage the encoder
transforms the low band again and joins it to the features (energy flow). The decoder rebuilds the same pyramid from
its features.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from wfvae_toolkit.registry import AUTOENCODERS, DOWNSAMPLERS, MID_BLOCKS, NORM_LAYERS, UPSAMPLERS, WAVELETS
from wfvae_toolkit.utils.errors import SettingError, is_number

from ..layers import ResidualBlock
from ..posterior import at_least_float32, build_posterior
from ..tiling import TilingControls
from .checks import check_image, check_latents, check_positive, check_shortcuts, check_widths, layers_per_stage
from .outputs import DecoderOutput, EncoderOutput

IMAGE_CHANNELS = 3
BAND_CHANNELS = 4 * IMAGE_CHANNELS
DEFAULT_MID = (dict(type='ResidualBlock'), dict(type='SpatialAttention'), dict(type='ResidualBlock'))


@AUTOENCODERS.register_module()
class WFVAE2Image(TilingControls, nn.Module):
    """(B, 3, H, W) in [-1, 1] <-> latents (B, latent_channels, H/f, W/f), f = 2^len(widths).

    In evaluation without gradients, pictures of more than 2^21 pixels are tiled; see ``models/tiling``.

    Args:
        latent_channels (int): channels of the latent.
        widths (list[int]): encoder channels, image to latent; each entry halves the size.
        decoder_widths (list[int]): the same for the decoder, image to latent; None: ``widths``.
        encoder_layers (int | list[int]): residual blocks per stage, at least 1; a list runs image to latent.
        decoder_layers (int | list[int]): the same, at least 2; a list runs latent to image.
        energy_flow (bool): the wavelet pyramid beside the features. Without it, ``bands`` is empty.
        flow_width (int): channels that the encoder's flow adds to each stage.
        decoder_flow_width (int): channels that the decoder's flow takes; None: ``flow_width``.
        wavelet (dict): WAVELETS config.
        norm (dict): NORM_LAYERS config.
        mid_blocks (list[dict]): MID_BLOCKS configs, used at the latent's size in encoder and decoder.
        dropout (float): in the residual blocks of the stages; mid blocks set their own.
        channel_attention (dict): CHANNEL_ATTENTIONS config, for the same blocks.
        downsample (dict): DOWNSAMPLERS config of the encoder's stages; None: StridedDownsample.
        upsample (dict): UPSAMPLERS config of the decoder's stages; None: NearestUpsample.
        latent_shortcuts (bool): encoder output += mid output averaged over channel groups; decoder's first conv
            += latents repeated to its width.
        output_activation (bool): SiLU between the decoder's last norm and last conv. The earlier 8x system has
            none, its 32x successor has it. Weights work only with the setting that they were trained with.
        checkpoint_activations (bool): compute the stages again in backward instead of keeping their activations.
        posterior (dict): POSTERIORS config, what the encoder's output says about the latents; None: GaussianPosterior.

    Raises:
        SettingError: settings that cannot work; the message names what would.
    """

    def __init__(self, latent_channels=8, widths=(128, 256, 512), decoder_widths=None,
                 encoder_layers: int | list = 2, decoder_layers: int | list = 2, energy_flow=True, flow_width=128,
                 decoder_flow_width=None, wavelet=None, norm=None, mid_blocks=DEFAULT_MID, dropout=0.0,
                 channel_attention=None, downsample=None, upsample=None, latent_shortcuts=False,
                 output_activation=False, checkpoint_activations=False, posterior=None):
        super().__init__()
        wavelet = wavelet or dict(type='Haar')
        norm = norm or dict(type='LayerNorm2d')
        block = dict(norm=norm, dropout=dropout, channel_attention=channel_attention)
        decoder_widths = widths if decoder_widths is None else decoder_widths
        decoder_flow_width = flow_width if decoder_flow_width is None else decoder_flow_width
        check_positive(latent_channels=latent_channels)
        if not is_number(dropout, 0, 1):
            raise SettingError(f'dropout={dropout!r}: a number from 0 to 1 is needed')
        check_widths('widths', widths)
        check_widths('decoder_widths', decoder_widths)
        if len(decoder_widths) != len(widths):
            raise SettingError(f'{len(decoder_widths)} decoder_widths for {len(widths)} widths: each entry is one '
                               'halving of the size, so both need the same number')
        # Not self.posterior: in AutoencoderWFVAE2 diffusers reads attributes of settings' names from the config.
        self.posterior_kind = build_posterior(posterior)
        encoder_channels = self.posterior_kind.encoder_channels(latent_channels)
        if latent_shortcuts:
            check_shortcuts(encoder_channels, latent_channels, widths[-1], decoder_widths[-1])
        if energy_flow:
            check_positive(flow_width=flow_width, decoder_flow_width=decoder_flow_width)
        stages = len(widths) - 1
        self.latent_channels = latent_channels
        self.downsample_factor = 2 ** len(widths)
        self.encoder = Encoder(encoder_channels, widths, layers_per_stage('encoder_layers', encoder_layers, stages, 1),
                               flow_width if energy_flow else 0, WAVELETS.build(wavelet), mid_blocks, block,
                               downsample or dict(type='StridedDownsample'), latent_shortcuts)
        self.decoder = Decoder(latent_channels, decoder_widths,
                               layers_per_stage('decoder_layers', decoder_layers, stages, 2),
                               decoder_flow_width if energy_flow else 0, WAVELETS.build(wavelet), mid_blocks, block,
                               upsample or dict(type='NearestUpsample'), latent_shortcuts, output_activation)
        self.encoder.checkpoint_activations = self.decoder.checkpoint_activations = checkpoint_activations
        self.automatic_tiling()
        self.to(memory_format=torch.channels_last)

    @property
    def last_layer(self):
        """Weight of the decoder's last conv, at which the adversarial gradient is balanced."""
        return self.decoder.conv_out.weight

    def encode(self, x):
        """(B, 3, H, W) in [-1, 1] -> EncoderOutput. SettingError unless f divides H and W."""
        check_image(x, self.downsample_factor)
        encoded, bands = self.run_encoder(x)
        return EncoderOutput(self.posterior_kind(encoded), bands)

    def decode(self, z):
        """(B, latent_channels, H/f, W/f) -> DecoderOutput with ``sample`` (B, 3, H, W)."""
        check_latents(z, self.latent_channels)
        return DecoderOutput(*self.run_decoder(z))

    def forward(self, x):
        """Reconstruct through the posterior's mean: (B, 3, H, W) -> (B, 3, H, W)."""
        return self.decode(self.encode(x).latent_dist.mode()).sample


class _Stages(nn.Module):
    checkpoint_activations = False

    def run_stage(self, stage, *inputs):
        if self.checkpoint_activations and torch.is_grad_enabled():
            # The re-entrant form does not support autograd.grad, which the adaptive weight needs.
            return checkpoint(stage, *inputs, use_reentrant=False)
        return stage(*inputs)


class Encoder(_Stages):
    """Image (B, 3, H, W) -> what the posterior reads (B, channels, H/f, W/f), and the wavelet bands of each stage."""

    def __init__(self, channels, widths, layers, flow_width, wavelet, mid_blocks, block, downsample,
                 latent_shortcuts):
        super().__init__()
        self.wavelet = wavelet
        self.latent_shortcuts = latent_shortcuts
        self.conv_in = nn.Conv2d(BAND_CHANNELS, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            EncoderStage(width, next_width, count, flow_width, block, downsample)
            for (width, next_width), count in zip(pairwise(widths), layers, strict=True))
        self.mid = _build_mid(mid_blocks, widths[-1], block['norm'])
        self.norm_out = NORM_LAYERS.build(block['norm'], channels=widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, x):
        pyramid = self.pyramid(x)
        h = self.mid(self.features(pyramid))
        return self.head(h), self.flow_bands(pyramid)

    def pyramid(self, x):
        """(B, 3, H, W) -> coefficients (B, 12, ...) of the image and for each stage, None without energy flow."""
        levels = [self.wavelet.analyze(x)]
        for stage in self.stages:
            levels.append(None if stage.flow_in is None else self.wavelet.analyze(levels[-1][:, :IMAGE_CHANNELS]))
        return levels

    def features(self, pyramid):
        """``pyramid(x)`` -> (B, widths[-1], H/f, W/f), through the convolutional stages."""
        h = self.conv_in(pyramid[0].contiguous(memory_format=torch.channels_last))
        for stage, coefficients in zip(self.stages, pyramid[1:], strict=True):
            h = self.run_stage(stage, h, coefficients)
        return h

    def head(self, h):
        """(B, widths[-1], h, w) -> what the posterior is made of, (B, channels, h, w)."""
        encoded = self.conv_out(F.silu(self.norm_out(h)))
        if self.latent_shortcuts:
            encoded = encoded + h.unflatten(1, (encoded.shape[1], -1)).mean(2)
        return encoded

    def flow_bands(self, pyramid):
        """The levels of ``pyramid(x)`` that join the stages; none without energy flow."""
        return tuple(level for level in pyramid[1:] if level is not None)


class EncoderStage(nn.Module):
    """Features (B, width, H, W) -> (B, next_width, H/2, W/2), joined by wavelet coefficients (B, 12, H/2, W/2)."""

    def __init__(self, width, next_width, layers, flow_width, block, downsample):
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(width, **block) for _ in range(layers - 1)))
        self.downsample = DOWNSAMPLERS.build(downsample, channels=width, next_channels=next_width)
        self.flow_in = nn.Conv2d(BAND_CHANNELS, flow_width, 3, padding=1) if flow_width else None
        self.out_block = ResidualBlock(self.downsample.out_channels + flow_width, out_channels=next_width, **block)

    def forward(self, h, coefficients):
        h = self.downsample(self.blocks(h))
        if self.flow_in is not None:
            flow = self.flow_in(coefficients.contiguous(memory_format=torch.channels_last))
            h = torch.cat([h, flow], dim=1)
        return self.out_block(h)


class Decoder(_Stages):
    """Latents (B, latent_channels, h, w) -> image (B, 3, f*h, f*w) and the wavelet bands of each stage."""

    def __init__(self, latent_channels, widths, layers, flow_width, wavelet, mid_blocks, block, upsample,
                 latent_shortcuts, output_activation):
        super().__init__()
        self.wavelet = wavelet
        self.latent_shortcuts = latent_shortcuts
        self.activation_out = nn.SiLU() if output_activation else nn.Identity()
        widths = widths[::-1]
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.mid = _build_mid(mid_blocks, widths[0], block['norm'])
        self.stages = nn.ModuleList(
            DecoderStage(width, next_width, count, flow_width, block, upsample)
            for (width, next_width), count in zip(pairwise(widths), layers, strict=True))
        self.norm_out = NORM_LAYERS.build(block['norm'], channels=widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], BAND_CHANNELS, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.enter(z))
        return self.synthesize(self.details(h))

    def enter(self, z):
        """Latents (B, latent_channels, h, w) -> features (B, widths[-1], h, w)."""
        h = self.conv_in(z.contiguous(memory_format=torch.channels_last))
        if self.latent_shortcuts:
            h = h + z.repeat_interleave(h.shape[1] // z.shape[1], dim=1)
        return h

    def details(self, h):
        """(B, widths[-1], h, w) -> (B, 12, ...) that each stage adds to the pyramid, None without flow, and the end."""
        details = []
        for stage in self.stages:
            h, level = self.run_stage(stage, h)
            details.append(level)
        return [*details, self.last_details(h)]

    def last_details(self, h):
        """(B, widths[0], H/2, W/2) -> (B, 12, H/2, W/2)."""
        return at_least_float32(self.conv_out(self.activation_out(self.norm_out(h))))

    def synthesize(self, details):
        """``details(h)`` -> image (B, 3, f*h, f*w), from the coarsest level to the finest, and the stages' bands."""
        bands, low = [], None
        for level in details:
            if level is not None:
                bands.append(add_low(level, low))
                low = self.wavelet.synthesize(bands[-1])
        return low, tuple(bands[:-1])


class DecoderStage(nn.Module):
    """Features (B, width, H, W) -> (B, next_width, 2H, 2W) and wavelet coefficients (B, 12, H, W) from its flow."""

    def __init__(self, width, next_width, layers, flow_width, block, upsample):
        super().__init__()
        self.split = [width, flow_width]
        self.branch = ResidualBlock(width, out_channels=width + flow_width, **block)
        self.flow_block = ResidualBlock(flow_width, **block) if flow_width else None
        self.flow_out = nn.Conv2d(flow_width, BAND_CHANNELS, 3, padding=1) if flow_width else None
        self.blocks = nn.Sequential(*(ResidualBlock(width, **block) for _ in range(layers - 2)))
        self.upsample = UPSAMPLERS.build(upsample, channels=width, next_channels=next_width)
        self.out_block = ResidualBlock(self.upsample.out_channels, out_channels=next_width, **block)

    def forward(self, h):
        h = self.branch(h)
        coefficients = None
        if self.flow_block is not None:
            h, flow = h.split(self.split, dim=1)
            coefficients = at_least_float32(self.flow_out(self.flow_block(flow)))
        return self.out_block(self.upsample(self.blocks(h))), coefficients


def add_low(coefficients, low):
    """Add the image of the level below, (B, 3, H, W), to the LL band of (B, 12, H, W); None adds nothing."""
    if low is None:
        return coefficients
    return torch.cat([coefficients[:, :IMAGE_CHANNELS] + low, coefficients[:, IMAGE_CHANNELS:]], dim=1)


def _build_mid(mid_blocks, channels, norm):
    return nn.Sequential(*(MID_BLOCKS.build(cfg, channels=channels, norm=norm) for cfg in mid_blocks))
