"""diffusers' autoencoders as baselines in the same loop (extra ``diffusers``)."""

import inspect

import torch
from torch import nn

from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_diffusers

from ..posterior import DeterministicPosterior, GaussianPosterior, at_least_float32
from .checks import check_image, check_latents
from .outputs import DecoderOutput, EncoderOutput


class _DiffusersAutoencoder(nn.Module):
    """What the training model and the evaluation need, around a model of diffusers; no ``bands``."""

    def __init__(self, model, posterior, latent_channels, downsample_factor, last_layer):
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder
        self.posterior_kind = posterior
        # Present in AutoencoderKL alone; they stand between the halves.
        self.quant_conv = getattr(model, 'quant_conv', None)
        self.post_quant_conv = getattr(model, 'post_quant_conv', None)
        self.latent_channels = latent_channels
        self.downsample_factor = downsample_factor
        self._last_layer = last_layer
        self.to(memory_format=torch.channels_last)

    @property
    def last_layer(self):
        """Weight of the decoder's last conv."""
        return self.get_parameter(self._last_layer)

    def encode(self, x):
        """(B, 3, H, W) in [-1, 1] -> EncoderOutput without bands."""
        check_image(x, self.downsample_factor)
        h = self.encoder(x.contiguous(memory_format=torch.channels_last))
        return EncoderOutput(self.posterior_kind(h if self.quant_conv is None else self.quant_conv(h)))

    def decode(self, z):
        """(B, latent_channels, H/f, W/f) -> DecoderOutput without bands."""
        check_latents(z, self.latent_channels)
        z = z if self.post_quant_conv is None else self.post_quant_conv(z)
        return DecoderOutput(at_least_float32(self.decoder(z)))

    def forward(self, x):
        return self.decode(self.encode(x).latent_dist.mode()).sample


@AUTOENCODERS.register_module()
class DiffusersAutoencoderKL(_DiffusersAutoencoder):
    """diffusers' ``AutoencoderKL``, the VAE of Stable Diffusion, from random weights.

    Args:
        latent_channels (int): channels of the latent.
        widths (list[int]): channels of each block, image to latent; f = 2^(len(widths) - 1).
        layers (int): residual blocks a block of the encoder.
        groups (int): of its group norms.

    Raises:
        MissingLibrary: diffusers is not installed.
        SettingError: ``groups`` does not divide a width.
    """

    def __init__(self, latent_channels=4, widths=(128, 256, 512, 512), layers=2, groups=32):
        if any(width % groups for width in widths):
            raise SettingError(f'DiffusersAutoencoderKL: {groups} groups do not divide the widths {tuple(widths)}')
        model = import_diffusers().AutoencoderKL(
            latent_channels=latent_channels, block_out_channels=tuple(widths), layers_per_block=layers,
            norm_num_groups=groups, down_block_types=('DownEncoderBlock2D',) * len(widths),
            up_block_types=('UpDecoderBlock2D',) * len(widths))
        super().__init__(model, GaussianPosterior(), latent_channels, 2 ** (len(widths) - 1), 'decoder.conv_out.weight')


@AUTOENCODERS.register_module()
class DiffusersAutoencoderDC(_DiffusersAutoencoder):
    """diffusers' ``AutoencoderDC`` (DC-AE, arXiv 2410.10733) from random weights; deterministic latents.

    Its posterior is DeterministicPosterior, so it trains without a KL row.

    Args:
        settings: what ``diffusers.AutoencoderDC`` takes.

    Raises:
        MissingLibrary: diffusers is not installed.
        SettingError: diffusers' class does not take a setting.
    """

    def __init__(self, **settings):
        build = import_diffusers().AutoencoderDC
        known = [name for name in inspect.signature(build.__init__).parameters if name != 'self']
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise SettingError(f'DiffusersAutoencoderDC: no setting is called {unknown[0]!r}; its settings are '
                               f'{", ".join(known)}')
        model = build(**settings)
        super().__init__(model, DeterministicPosterior(), model.config.latent_channels,
                         model.spatial_compression_ratio, 'decoder.conv_out.weight')
