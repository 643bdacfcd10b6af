"""The autoencoder's objective, differentiated row by row at the networks' outputs."""

import torch

from wfvae_toolkit.losses import Step
from wfvae_toolkit.utils.errors import SettingError


class Outputs:
    """What AutoencoderPass returned: ``tensors`` of the network's graph and, at the same places, ``leaves``.

    Losses see the leaves (in ``step``); their gradients then enter the network's graph at ``tensors``.
    """

    def __init__(self, outputs, images, **seen_by_losses):
        reconstruction, posterior_tensors, latents, encoder_bands, decoder_bands, posterior = outputs
        self.tensors = [reconstruction, *posterior_tensors, latents, *encoder_bands, *decoder_bands]
        self.leaves = [tensor.detach().requires_grad_() for tensor in self.tensors]
        leaves = iter(self.leaves)
        self.step = Step(target=images, reconstruction=next(leaves),
                         latent_dist=posterior.replace([next(leaves) for _ in posterior_tensors]), latents=next(leaves),
                         encoder_bands=tuple(next(leaves) for _ in encoder_bands),
                         decoder_bands=tuple(leaves), **seen_by_losses)

    @property
    def reconstruction(self):
        """(B, 3, H, W) in the network's graph."""
        return self.tensors[0]


class Row:
    """A loss row's value and its gradients: at each leaf of the outputs, then at each of ``parameters``.

    Raises:
        SettingError: the loss did not return a scalar with a gradient; the message holds ``name``.
    """

    def __init__(self, name, loss, outputs, parameters, autocast):
        with autocast:
            value = loss(outputs.step)
        check_loss_value(value, f'losses.{name}: {type(loss).__name__}')
        self.value = value.detach()
        self.gradients = torch.autograd.grad(value, [*outputs.leaves, *parameters], allow_unused=True)

    @property
    def at_reconstruction(self):
        """(B, 3, H, W) or None."""
        return self.gradients[0]


def check_loss_value(value, name):
    """SettingError unless ``value`` is a scalar tensor with a gradient."""
    if not isinstance(value, torch.Tensor):
        found = f'a {type(value).__name__}'
    elif value.ndim or not value.is_floating_point():
        found = f'{value.dtype} of shape {tuple(value.shape)}'
    elif not value.requires_grad:
        found = ('a constant, which trains nothing (by detach() or no_grad()?); a row that is off for now returns '
                 'step.reconstruction.sum() * 0')
    else:
        return
    raise SettingError(f'{name} returned {found}; a scalar with a gradient is needed, such as '
                       'error.flatten(1).sum(1).mean()')


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
