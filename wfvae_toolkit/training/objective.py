"""The autoencoder's objective, differentiated row by row at the networks' outputs."""

import torch

from wfvae_toolkit.losses import Step
from wfvae_toolkit.models.posterior import DiagonalGaussian


class Outputs:
    """What AutoencoderPass returned: ``tensors`` of the network's graph and, at the same places, ``leaves``.

    Losses see the leaves (in ``step``); their gradients then enter the network's graph at ``tensors``.
    """

    def __init__(self, outputs, images, **seen_by_losses):
        *single, encoder_bands, decoder_bands = outputs
        self.tensors = [*single, *encoder_bands, *decoder_bands]
        self.leaves = [tensor.detach().requires_grad_() for tensor in self.tensors]
        reconstruction, mean, logvar, latents, *bands = self.leaves
        self.step = Step(target=images, reconstruction=reconstruction, latent_dist=DiagonalGaussian(mean, logvar),
                         latents=latents, encoder_bands=tuple(bands[:len(encoder_bands)]),
                         decoder_bands=tuple(bands[len(encoder_bands):]), **seen_by_losses)

    @property
    def reconstruction(self):
        """(B, 3, H, W) in the network's graph."""
        return self.tensors[0]


class Row:
    """A loss row's value and its gradients: at each leaf of the outputs, then at each of ``parameters``."""

    def __init__(self, loss, outputs, parameters, autocast):
        with autocast:
            value = loss(outputs.step)
        self.value = value.detach()
        self.gradients = torch.autograd.grad(value, [*outputs.leaves, *parameters], allow_unused=True)

    @property
    def at_reconstruction(self):
        """(B, 3, H, W) or None."""
        return self.gradients[0]


def weighted_sum(terms):
    """[(factor, tensor or None)] -> sum of the tensors there are, or None."""
    total = None
    for factor, tensor in terms:
        if tensor is not None:
            total = tensor * factor if total is None else total.add_(tensor * factor)
    return total


class KnownGradient(torch.autograd.Function):
    """A scalar whose gradients with respect to ``tensors`` are given; None: no gradient."""

    @staticmethod
    def forward(ctx, value, gradients, *tensors):
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, scale):
        return None, None, *(None if gradient is None else gradient * scale for gradient in ctx.gradients)
