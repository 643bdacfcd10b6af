"""Parameters, arithmetic and latent size of a model."""

from dataclasses import dataclass

import torch

from wfvae_toolkit.registry import AUTOENCODERS, DISCRIMINATORS

from .kernels import record


@dataclass
class ModelSummary:
    """``parts``: dotted name -> parameters, at most two levels deep; FLOPs of one image of ``size`` px."""

    size: int
    parts: dict[str, int]
    encoder_flops: int
    decoder_flops: int
    downsample_factor: int
    latent_shape: tuple[int, ...]


def summarize_model(model_cfg, size=256):
    """Count a training model's networks without building its losses.

    Args:
        model_cfg (dict): the config's ``model``.
        size (int): edge of the square image in px whose forward pass is counted (multiply and add: 2 FLOPs).

    Raises:
        SettingError: the autoencoder's factor does not divide ``size``.
    """
    autoencoder = AUTOENCODERS.build(model_cfg['autoencoder']).eval()
    networks = {'encoder': autoencoder.encoder, 'decoder': autoencoder.decoder}
    if model_cfg.get('discriminator') is not None:
        networks['discriminator'] = DISCRIMINATORS.build(model_cfg['discriminator'])
    parts = {}
    for name, network in networks.items():
        parts[name] = _count(network)
        parts.update({f'{name}.{child}': count for child, module in network.named_children()
                      if (count := _count(module))})
    with torch.no_grad():
        latents = autoencoder.encode(torch.zeros(1, 3, size, size)).latent_dist.mode()
        encoder_flops = record(lambda: autoencoder.encode(torch.zeros(1, 3, size, size))).flops
        decoder_flops = record(lambda: autoencoder.decode(latents)).flops
    return ModelSummary(size, parts, encoder_flops, decoder_flops, autoencoder.downsample_factor,
                        tuple(latents.shape[1:]))


def format_summary(summary):
    """ModelSummary -> plain-text table."""
    width = max(map(len, summary.parts))
    lines = [f'{"part":<{width}}  parameters']
    for name, count in summary.parts.items():
        lines.append(f'{name:<{width}}  {count:>13,}' if '.' not in name else f'  {name:<{width}}{count:>13,}')
    compression = 3 * summary.size**2 / torch.Size(summary.latent_shape).numel()
    lines += ['', f'{summary.size}x{summary.size} px, one image: encoder {summary.encoder_flops / 1e9:.1f} GFLOP, '
                  f'decoder {summary.decoder_flops / 1e9:.1f} GFLOP',
              'two FLOPs for a multiply-add; published GFLOPs often count one, such as those of SD-VAE',
              f'latent {"x".join(map(str, summary.latent_shape))} (f{summary.downsample_factor}), '
              f'{compression:g} image values a latent value']
    return '\n'.join(lines)


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())
