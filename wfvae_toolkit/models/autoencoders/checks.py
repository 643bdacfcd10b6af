"""What an autoencoder accepts: its settings, images and latents."""

import torch

from wfvae_toolkit.utils.errors import SettingError, is_number

from ..sizes import fit_to_factor


def check_image(x, factor):
    """SettingError unless x is a float tensor (B, 3, H, W) with H and W positive multiples of ``factor``."""
    _check_floats('images', x, 'in [-1, 1]; of uint8 it is x / 127.5 - 1')
    if x.ndim != 4 or x.shape[1] != 3:
        raise SettingError(f'images of shape {tuple(x.shape)}: (B, 3, H, W) is needed')
    fit_to_factor(x, factor, 'refuse')


def check_latents(z, channels):
    """SettingError unless z is a float tensor (B, channels, H, W)."""
    _check_floats('latents', z, 'as encode gives it')
    if z.ndim != 4 or z.shape[1] != channels or not z.numel():
        raise SettingError(f'latents of shape {tuple(z.shape)}: (B, {channels}, H, W) is needed')


def _check_floats(what, x, which):
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, torch.Tensor) else f'type {type(x).__name__}'
        raise SettingError(f'{what} of {found}: a float tensor is needed, {which}')


def layers_per_stage(name, layers, stages, least):
    """One number for all stages, or a list with one per stage -> list. SettingError names what would work."""
    counts = list(layers) if isinstance(layers, (list, tuple)) else [layers] * stages
    if len(counts) != stages or not all(is_number(count, whole=True) for count in counts):
        raise SettingError(f'{name}={layers!r}: give one number or a list of {stages}, one per stage')
    if min(counts) < least:
        raise SettingError(f'{name}={layers!r}: every stage needs at least {least}')
    return counts


def check_shortcuts(encoder_channels, latent_channels, encoder_width, decoder_width):
    """SettingError unless the channels at both ends of the latent shortcuts divide the widths."""
    if encoder_width % encoder_channels or decoder_width % latent_channels:
        raise SettingError(f'latent_shortcuts: the {encoder_channels} channels of the encoder must divide its last '
                           f'width {encoder_width}, and the {latent_channels} latent channels the last decoder width '
                           f'{decoder_width}')


def check_widths(name, widths):
    """SettingError unless ``widths`` is a list of two or more channel counts."""
    if not isinstance(widths, (list, tuple)) or len(widths) < 2:
        raise SettingError(f'{name}={widths!r}: a list of at least two entries is needed (2 give 4x, 3 give 8x '
                           'downsampling)')
    check_positive(**{f'{name}[{i}]': width for i, width in enumerate(widths)})


def check_positive(**sizes):
    """SettingError unless every value is a whole number of at least 1."""
    for name, size in sizes.items():
        if not is_number(size, 1, whole=True):
            raise SettingError(f'{name}={size!r}: a positive integer is needed')
