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

# Of torch.nn.Upsample, for two dimensions.
UPSAMPLE_FUNCTIONS = ('nearest', 'nearest-exact', 'bilinear', 'bicubic')


class _DiffusersAutoencoder(nn.Module):
    """What the training model and the evaluation need, around a model of diffusers; no ``bands``."""

    def __init__(self, model, posterior, latent_channels, downsample_factor, last_layer):
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder
        self.posterior_kind = posterior
        # Of AutoencoderKL, unless it was built without; they stand between the halves.
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
        quant_conv (bool): a 1x1 conv after the encoder and one before the decoder, as in Stable Diffusion 1 and 2 and
            XL; False: none, as in Stable Diffusion 3 and FLUX.

    Raises:
        MissingLibrary: diffusers is not installed.
        SettingError: ``groups`` does not divide a width.
    """

    def __init__(self, latent_channels=4, widths=(128, 256, 512, 512), layers=2, groups=32, quant_conv=True):
        if any(width % groups for width in widths):
            raise SettingError(f'DiffusersAutoencoderKL: {groups} groups do not divide the widths {tuple(widths)}')
        model = import_diffusers().AutoencoderKL(
            latent_channels=latent_channels, block_out_channels=tuple(widths), layers_per_block=layers,
            norm_num_groups=groups, use_quant_conv=quant_conv, use_post_quant_conv=quant_conv,
            down_block_types=('DownEncoderBlock2D',) * len(widths), up_block_types=('UpDecoderBlock2D',) * len(widths))
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


@AUTOENCODERS.register_module()
class DiffusersAutoencoderTiny(_DiffusersAutoencoder):
    """diffusers' ``AutoencoderTiny`` (TAESD, github.com/madebyollin/taesd) from random weights; deterministic latents.

    Images are in [-1, 1] here as everywhere; diffusers' encoder and decoder convert to and from TAESD's [0, 1]. The
    decoder bounds latents softly at +-3 (3 tanh(z / 3)). ``latent_magnitude`` and ``latent_shift`` of diffusers are no
    settings: they serve latents that are stored as bytes, which nothing here does.

    Its posterior is DeterministicPosterior, so it trains without a KL row.

    Args:
        latent_channels (int): channels of the latent.
        width (int): channels of every block.
        encoder_blocks (list[int]): residual blocks at each size, image to latent; f = 2^(len(encoder_blocks) - 1).
        decoder_blocks (list[int]): the same of the decoder, latent to image.
        act_fn (str): diffusers' name of the activation.
        upsample_fn (str): interpolation of the decoder, as ``torch.nn.Upsample`` calls it.

    Raises:
        MissingLibrary: diffusers is not installed.
        SettingError: encoder and decoder have different numbers of sizes, or an unknown activation or interpolation.
    """

    def __init__(self, latent_channels=4, width=64, encoder_blocks=(1, 3, 3, 3), decoder_blocks=(3, 3, 3, 1),
                 act_fn='relu', upsample_fn='nearest'):
        if len(encoder_blocks) != len(decoder_blocks):
            raise SettingError(f'DiffusersAutoencoderTiny: encoder_blocks={tuple(encoder_blocks)} and decoder_blocks='
                               f'{tuple(decoder_blocks)}: both need one number for each size')
        if upsample_fn not in UPSAMPLE_FUNCTIONS:
            raise SettingError(f'DiffusersAutoencoderTiny: upsample_fn={upsample_fn!r}: use one of '
                               f'{", ".join(UPSAMPLE_FUNCTIONS)}')
        diffusers = import_diffusers()
        sizes = len(encoder_blocks)
        try:
            model = diffusers.AutoencoderTiny(
                latent_channels=latent_channels, encoder_block_out_channels=(width,) * sizes,
                decoder_block_out_channels=(width,) * sizes, num_encoder_blocks=tuple(encoder_blocks),
                num_decoder_blocks=tuple(decoder_blocks), act_fn=act_fn, upsample_fn=upsample_fn)
        except ValueError as error:  # diffusers lists no names of activations
            raise SettingError(f'DiffusersAutoencoderTiny: {error}') from None
        super().__init__(model, DeterministicPosterior(), latent_channels, 2 ** (sizes - 1),
                         f'decoder.layers.{len(model.decoder.layers) - 1}.weight')
