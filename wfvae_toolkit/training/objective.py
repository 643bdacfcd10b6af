"""What each network minimises. The autoencoder's objective is differentiated row by row at the network's outputs."""

import inspect

import torch

from wfvae_toolkit.losses import Step, mean_score
from wfvae_toolkit.models.latent_statistics import active_channels
from wfvae_toolkit.utils.errors import SettingError

from .balance import row_weights, weighted_sum


class Outputs:
    """What AutoencoderPass returned: ``tensors`` in the network's graph and, in the same order, ``leaves``.

    Losses see the leaves (in ``step``). Their gradients then enter the network's graph at ``tensors``.
    """

    def __init__(self, outputs, images, **seen_by_losses):
        reconstruction, of_posterior, latents, encoder_bands, decoder_bands, posterior = outputs
        self.tensors = [reconstruction, *of_posterior, latents, *encoder_bands, *decoder_bands]
        self.leaves = [tensor.detach().requires_grad_() for tensor in self.tensors]
        leaves = iter(self.leaves)
        self.step = Step(target=images, reconstruction=next(leaves),
                         latent_dist=posterior.replace([next(leaves) for _ in of_posterior]), latents=next(leaves),
                         encoder_bands=tuple(next(leaves) for _ in encoder_bands), decoder_bands=tuple(leaves),
                         **seen_by_losses)

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
        ``per_pixel/NAME`` the same divided by C*H*W, ``adaptive_weight``, ``loss``. A posterior with a KL
        adds ``kl_channel`` (one value for each latent channel, in nats per position) and ``active_channels``. It adds
        ``least_kl``, the KL of a channel that carries nothing, if that is not 0.

    Raises:
        SettingError: a row returned no scalar with a gradient, or nothing of the autoencoder trains.
    """
    parameters = [parameter for network in (model.losses, outputs.step.autoencoder) if network is not None
                  for parameter in network.parameters() if parameter.requires_grad]
    # A row's graph (VGG features at 1024 px: gigabytes) is freed before the next row's is built, and the
    # networks behind the rows run backward once.
    rows = {name: Row(name, loss, outputs, parameters, model.autocast(rows=True))
            for name, loss in model.losses.items()
            if loss.trains == 'autoencoder' and (model.discriminator_started or not loss.needs_discriminator)}
    weights, log = row_weights(model, outputs, rows)
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
    log.update(_kl_of_channels(outputs.step.latent_dist))
    log['loss'] = scale * total
    return loss, log


def discriminator_objective(model, step):
    """Loss and log of the discriminator: the adversarial row's ``discriminator_loss`` and weight * row of its own rows.

    Args:
        model (AutoencoderTraining): its rows.
        step (DiscriminatorStep): of ``model.judge``.

    Returns:
        tuple: scalar loss; dict of detached scalars: ``discriminator`` (of the adversarial row), each row of the
        discriminator without its weight, ``scores/real``, ``scores/fake``.

    Raises:
        SettingError: a row returned no scalar with a gradient.
    """
    adversarial = model.losses[model.adversarial]
    loss = (adversarial.discriminator_loss(step.real_scores, step.fake_scores) if _takes_scores(adversarial)
            else adversarial.discriminator_loss(step))
    check_loss_value(loss, f'losses.{model.adversarial}: discriminator_loss')
    log = {'discriminator': loss.detach(), 'scores/real': mean_score(step.real_scores).detach(),
           'scores/fake': mean_score(step.fake_scores).detach()}
    for name, row in model.discriminator_rows().items():
        value = row(step)
        check_loss_value(value, f'losses.{name}: {type(row).__name__}')
        loss = loss + row.weight * value
        log[name] = value.detach()
    return loss, log


def _takes_scores(row):
    """Whether a plug-in's ``discriminator_loss(real_scores, fake_scores)`` is of version 0.1.0."""
    return len(inspect.signature(row.discriminator_loss).parameters) == 2


def _kl_of_channels(posterior):
    """What the log says of a posterior's KL; nothing where there is none."""
    if posterior.least_kl is None:
        return {}
    log = {'kl_channel': posterior.kl().detach().mean((0, 2, 3))}
    if posterior.least_kl:
        log['least_kl'] = torch.full_like(log['kl_channel'][0], posterior.least_kl)
    return {**log, 'active_channels': count_active(log)}


def count_active(log):
    """Number of active latent channels, a 0-dim tensor; see `active_channels`."""
    return active_channels(log['kl_channel'], log.get('least_kl', 0.0)).sum().float()


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


class KnownGradient(torch.autograd.Function):
    """A scalar whose gradients with respect to ``tensors`` are given; None: no gradient."""

    @staticmethod
    def forward(ctx, value, gradients, *tensors):
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, scale):
        return None, None, *(None if gradient is None else gradient * scale for gradient in ctx.gradients)
