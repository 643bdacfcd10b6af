"""Weights of loss rows that follow the gradients of other rows at a layer.

A row with ``balance`` gets the factor ``weight * clamp(|d balance/dW| / (|d row/dW| + 1e-6), 0, max_ratio)``. W is the
weight of a layer: the decoder's last conv for an adversarial row (Esser et al. 2021, arXiv 2012.09841, equation 7),
the encoder's last conv for a row that aligns latents (VA-VAE, arXiv 2501.01423).
"""

import difflib

import torch

from wfvae_toolkit.losses import AdversarialLoss, balanced_weight
from wfvae_toolkit.utils.distributed import average_over_ranks
from wfvae_toolkit.utils.errors import SettingError

# Keys of a row of the config that the training model reads.
KEYS = ('balance', 'balance_at', 'max_ratio')


def row_weights(model, outputs, rows):
    """Factors of the rows in the objective, and those that follow from gradients.

    Args:
        model (AutoencoderTraining): its losses, logvar and networks.
        outputs (Outputs): of the micro-batch.
        rows (dict[str, Row]): rows with their gradients at the outputs.

    Returns:
        tuple: row -> factor; name in the log -> factor of each balanced row. Equal on every rank.

    Raises:
        SettingError: no row of a ``balance``, or the balanced row itself, depends on the layer.
    """
    precision = torch.exp(-model.logvar.detach())
    weights = {name: model.losses[name].weight * (precision if name in model.likelihood_rows else 1.0)
               for name in rows}
    adaptive = {}
    for name in rows:
        loss = model.losses[name]
        if loss.balance:
            weights[name] = adaptive[name] = _adaptive_weight(model, outputs, rows, weights, name)
        elif isinstance(loss, AdversarialLoss):
            adaptive[name] = torch.full((), float(loss.weight), device=outputs.reconstruction.device)
            weights[name] = adaptive[name]
    return weights, {'adaptive_weight' if name == model.adversarial else f'adaptive_weight/{name}': weight
                     for name, weight in adaptive.items()}


def _adaptive_weight(model, outputs, rows, weights, name):
    loss, layer = model.losses[name], layer_of(model, name)
    terms = [(weights[other], rows[other].gradients) for other in loss.balance if other in rows]
    balance = [weighted_sum([(weight, gradients[i]) for weight, gradients in terms])
               for i in range(len(outputs.leaves))]
    at_layer = [_gradient_at(layer, outputs.tensors, gradients, model.precision)
                for gradients in (balance, rows[name].gradients[:len(outputs.leaves)])]
    for gradient, what in zip(at_layer, (f'none of the rows {", ".join(loss.balance)} depends',
                                         f'{name} does not depend'), strict=True):
        if gradient is None:
            raise SettingError(f'losses.{name}.balance={loss.balance}: {what} on '
                               f'{loss.balance_at or "the reconstruction"}; balance=() gives a constant weight')
    # Averaged before the norm: then two ranks equal one process.
    average_over_ranks(at_layer)
    return loss.weight * balanced_weight(*at_layer, loss.max_ratio)


def _gradient_at(layer, outputs, gradients, precision):
    """Gradients at the outputs of the network -> gradient at a parameter, or None."""
    pairs = [(output, gradient) for output, gradient in zip(outputs, gradients, strict=True)
             if gradient is not None and output.requires_grad]
    if not pairs:
        return None
    scale = 1.0
    if precision == 'fp16':
        # The gradient at a weight is a sum over all pixels: at 672 px it was 3.5 times float16's limit, and the clamp
        # of the ratio hid the infinity. A power of two, so that it cancels without rounding.
        size = sum(gradient.abs().sum() for _, gradient in pairs)
        scale = torch.exp2((1024 / size.clamp(min=1e-20)).log2().floor())
        pairs = [(output, gradient * scale) for output, gradient in pairs]
    found, = torch.autograd.grad([output for output, _ in pairs], layer, [gradient for _, gradient in pairs],
                                 retain_graph=True, allow_unused=True)
    return None if found is None else found / scale


def layer_of(model, name):
    """The parameter at which a row is balanced; SettingError where the autoencoder has no layer of that name."""
    place = model.losses[name].balance_at
    if place is None:
        return model.autoencoder.last_layer
    weights = {key.removesuffix('.weight'): value for key, value in model.autoencoder.named_parameters()
               if key.endswith('.weight')}
    if place not in weights:
        near = difflib.get_close_matches(place, weights, n=3, cutoff=0.4)
        raise SettingError(f'losses.{name}.balance_at={place!r}: the autoencoder has no layer of this name; similar '
                           f'names: {", ".join(near) or ", ".join(list(weights)[:3])}')
    return weights[place]


def check_balance(model, known_rows):
    """SettingError for a ``balance`` that names no row, itself or a balanced one, and for a layer that does not train.

    Args:
        model (AutoencoderTraining): built and frozen.
        known_rows (set[str]): rows of the config, those that are None too.
    """
    balanced = {name for name, loss in model.losses.items() if loss.balance}
    for name in sorted(balanced):
        rows = model.losses[name].balance
        others = known_rows - balanced
        unknown = sorted(set(rows) - others)
        if unknown:
            raise SettingError(f'losses.{name}.balance names {", ".join(unknown)}; rows: {", ".join(sorted(others))}')
        if not set(rows) & set(model.losses):
            raise SettingError(f'losses.{name}.balance={rows}: every row in it is None; name one that is there, '
                               'or balance=() for a constant weight')
        if not layer_of(model, name).requires_grad:
            place = model.losses[name].balance_at or "the decoder's last layer"
            raise SettingError(f'freeze covers {place}, at which losses.{name} is balanced; leave it out, or set '
                               f'losses.{name}.balance=()')


def weighted_sum(terms):
    """[(factor, tensor or None)] -> sum of the tensors there are, or None."""
    total = None
    for factor, tensor in terms:
        if tensor is not None:
            total = tensor * factor if total is None else total.add_(tensor * factor)
    return total
