"""What each network minimises. The autoencoder's objective is differentiated row by row at the network's outputs."""

import torch

from wfvae_toolkit.losses import Step, balanced_weight, mean_score
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.utils.distributed import average_over_ranks
from wfvae_toolkit.utils.errors import SettingError

ACTIVE_KL_NATS = 0.01  # a latent channel with less carries nothing


class Outputs:
    """What AutoencoderPass returned: ``tensors`` in the network's graph and, in the same order, ``leaves``.

    Losses see the leaves (in ``step``). Their gradients then enter the network's graph at ``tensors``.
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


def autoencoder_objective(model, outputs):
    """Loss and log of the autoencoder; ``loss.backward()`` fills the gradients of its parameters alone.

    loss = sum of weight * row + logvar * C*H*W, where the rows of ``model.likelihood_rows`` are also divided by
    exp(logvar); all divided by C*H*W with ``normalize``.

    Args:
        model (AutoencoderTraining): its rows, weights and precision.
        outputs (Outputs): of ``model.reconstruct``.

    Returns:
        tuple: scalar loss; dict of detached tensors: each row without its weight under its name (sum over an image),
        ``per_pixel/NAME`` the same divided by C*H*W, ``adaptive_weight``, ``kl_channel`` (nats a position, one a latent
        channel), ``active_channels``, ``loss``.

    Raises:
        SettingError: a row returned no scalar with a gradient, or nothing of the autoencoder trains.
    """
    parameters = [parameter for network in (model.losses, outputs.step.autoencoder) if network is not None
                  for parameter in network.parameters() if parameter.requires_grad]
    # A row's graph (VGG features at 1024 px: gigabytes) is freed before the next row's is built, and the
    # networks behind the rows run backward once.
    rows = {name: Row(name, loss, outputs, parameters, model.autocast(rows=True))
            for name, loss in model.losses.items()
            if model.discriminator_started or not loss.needs_discriminator}
    log = {}
    weights = _weights(model, outputs, rows, log)
    size = outputs.step.values_per_image
    scale = 1.0 / size if model.normalize else 1.0
    total = sum(weights[name] * row.value for name, row in rows.items()) + model.logvar.detach() * size
    gradients = [weighted_sum([(scale * weights[name], row.gradients[i]) for name, row in rows.items()])
                 for i in range(len(outputs.leaves) + len(parameters))]
    tensors = [*outputs.tensors, *parameters]
    if model.logvar.requires_grad:
        likelihood = sum(weights[name] * rows[name].value for name in model.likelihood_rows if name in rows)
        tensors.append(model.logvar)
        gradients.append(scale * (size - likelihood))
        log['logvar'] = model.logvar.detach().clone()
    loss = KnownGradient.apply(scale * total, gradients, *tensors)
    if not loss.requires_grad:
        raise SettingError('model.freeze leaves nothing of the autoencoder to train')
    for name, row in rows.items():
        log[name] = row.value
        if not model.losses[name].needs_discriminator:
            log[f'per_pixel/{name}'] = row.value / size
    log['kl_channel'] = outputs.step.latent_dist.kl().detach().mean((0, 2, 3))
    log['active_channels'] = count_active(log['kl_channel'])
    log['loss'] = scale * total
    return loss, log


def discriminator_objective(model, judged):
    """Loss and log of the discriminator.

    Args:
        model (AutoencoderTraining): its adversarial row.
        judged (tuple): scores of real images and of reconstructions, as of ``model.judge``.

    Returns:
        tuple: scalar loss; dict of detached scalars: ``discriminator``, ``scores/real``, ``scores/fake``.

    Raises:
        SettingError: the row returned no scalar with a gradient.
    """
    real_scores, fake_scores = judged
    loss = model.losses[model.adversarial].discriminator_loss(real_scores, fake_scores)
    check_loss_value(loss, f'losses.{model.adversarial}: discriminator_loss')
    return loss, {'discriminator': loss.detach(), 'scores/real': mean_score(real_scores).detach(),
                  'scores/fake': mean_score(fake_scores).detach()}


def count_active(kl_channel):
    """Number of latent channels that carry something: over 0.01 nats a position."""
    return (kl_channel > ACTIVE_KL_NATS).sum().float()


class Row:
    """Value of a loss row, and its gradients at each leaf of the outputs, then at each of ``parameters``.

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


def _weights(model, outputs, rows, log):
    """Factor of every row in the objective; an adaptive one enters ``log``."""
    precision = torch.exp(-model.logvar.detach())
    weights = {name: model.losses[name].weight * (precision if name in model.likelihood_rows else 1.0)
               for name in rows}
    if model.adversarial in rows:
        weights[model.adversarial] = log['adaptive_weight'] = _adaptive_weight(model, outputs, rows, weights)
    return weights


def _adaptive_weight(model, outputs, rows, weights):
    """Factor of the adversarial row, from both gradients at the decoder's last conv; equal on every rank."""
    row = model.losses[model.adversarial]
    if not row.balance:
        return torch.tensor(float(row.weight), device=outputs.reconstruction.device)
    balance = weighted_sum([(weights[name], rows[name].at_reconstruction) for name in row.balance if name in rows])
    if balance is None:
        raise SettingError(f'losses.{model.adversarial}.balance={row.balance}: none of these rows depends on the '
                           'reconstruction; balance=() gives a constant weight')
    at_last_layer = [_at_last_layer(model, outputs.reconstruction, gradient)
                     for gradient in (balance, rows[model.adversarial].at_reconstruction)]
    # Averaged before the norm: then two ranks equal one process.
    average_over_ranks(at_last_layer)
    return row.weight * balanced_weight(*at_last_layer, row.max_ratio)


def _at_last_layer(model, reconstruction, gradient):
    """Gradient at the reconstruction -> at the weight of the decoder's last conv."""
    weight = model.autoencoder.last_layer
    if model.precision != 'fp16':
        return torch.autograd.grad(reconstruction, weight, gradient, retain_graph=True)[0]
    # The weight's gradient is a sum over all pixels: at 672 px it was 3.5 times float16's limit, and the clamp of
    # the ratio hid the infinity. A power of two, so that it cancels without rounding.
    scale = torch.exp2((1024 / gradient.abs().sum().clamp(min=1e-20)).log2().floor())
    return torch.autograd.grad(reconstruction, weight, gradient * scale, retain_graph=True)[0] / scale


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
