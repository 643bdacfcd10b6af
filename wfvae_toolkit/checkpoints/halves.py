"""Encoder and decoder of a model as two networks of plain tensors, for runtimes that do not know the toolkit."""

from typing import NamedTuple

import torch
from torch import nn

from .settings import complete
from .to_diffusers import example
from .trained import CheckpointError

TOLERANCE = 1e-4
_LARGEST_SIZE = 2**31 - 1
# Latent rows and columns, and images a batch, other than those that are traced.
_CHECKED = ((4, 5, 1), (7, 3, 3))


class Half(NamedTuple):
    """One half of a model, and what a tracer must know of it.

    Attributes:
        name (str): ``'encoder'`` or ``'decoder'``.
        network (nn.Module): a tensor -> a tensor (decoder) or a tuple of them (encoder), in evaluation.
        argument_name (str): of the input, ``'image'`` or ``'latents'``.
        argument (Tensor): an example of it.
        dynamic (dict[int, torch.export.Dim]): the axes whose size is free: batch, height, width.
        outputs (list[str]): names of the outputs.
    """

    name: str
    network: nn.Module
    argument_name: str
    argument: torch.Tensor
    dynamic: dict
    outputs: list


class _Encoder(nn.Module):
    def __init__(self, autoencoder):
        super().__init__()
        self.encoder, self.posterior_kind = autoencoder.encoder, autoencoder.posterior_kind

    def forward(self, image):
        return self.posterior_kind(self.encoder(image)[0]).tensors


class _Decoder(nn.Module):
    def __init__(self, autoencoder):
        super().__init__()
        self.decoder = autoencoder.decoder

    def forward(self, latents):
        return self.decoder(latents)[0]


def make_halves(autoencoder):
    """WFVAE2Image -> its encoder and decoder, two `Half`.

    Encoder: (B, 3, H, W) in [-1, 1] -> the tensors of its posterior, raw latents (B, C, H/f, W/f). Decoder: raw latents
    (B, C, h, w) -> (B, 3, f*h, f*w). Nothing is tiled.
    """
    autoencoder.eval()
    factor = autoencoder.downsample_factor
    # torch 2.6 refuses a size without a bound: its largest integer is a special value there.
    batch, height, width = (torch.export.Dim(name, max=_LARGEST_SIZE) for name in ('batch', 'height', 'width'))
    images, latents = example(autoencoder, rows=3, columns=4)
    with torch.inference_mode():
        outputs = posterior_names(autoencoder.encode(images).latent_dist)
    return (Half('encoder', _Encoder(autoencoder), 'image', images, {0: batch, 2: factor * height, 3: factor * width},
                 outputs),
            Half('decoder', _Decoder(autoencoder), 'latents', latents, {0: batch, 2: height, 3: width}, ['image']))


def posterior_names(posterior):
    """LatentDistribution -> names of the encoder's outputs, ``posterior_mean`` first."""
    return [f'posterior_{name}' for name in posterior.names]


def describe_halves(model, autoencoder):
    """TrainedModel and the WFVAE2Image built of it -> what ``config.json`` tells about the two halves."""
    statistics = model.statistics
    return dict(downsample_factor=autoencoder.downsample_factor, latent_channels=autoencoder.latent_channels,
                posterior=complete(model.config)['posterior'],
                latents_mean=None if statistics is None else list(statistics.mean),
                latents_std=None if statistics is None else list(statistics.std),
                largest_activations=model.meta.get('largest_activations'))


def compare_halves(autoencoder, encode, decode, folder):
    """CheckpointError unless ``encode`` and ``decode`` give the autoencoder's results to 1e-4, at two sizes.

    Args:
        autoencoder (WFVAE2Image): what was exported.
        encode, decode (callable): a tensor -> a list of tensors, of what was written.
        folder (Path): for the message.
    """
    for rows, columns, batch in _CHECKED:
        images, latents = example(autoencoder, rows, columns, batch)
        with torch.inference_mode():
            posterior = autoencoder.encode(images).latent_dist
            expected = [*posterior.tensors, autoencoder.decode(latents).sample]
        results = [*encode(images), *decode(latents)]
        for name, result, wanted in zip((*posterior_names(posterior), 'image'), results, expected, strict=True):
            error = (result - wanted).abs().max()
            if not error <= TOLERANCE:
                raise CheckpointError(f'{folder}: {name} differs by {error:.2g} for images of '
                                      f'{tuple(images.shape)}; at most {TOLERANCE} was expected')
