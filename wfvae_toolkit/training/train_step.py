"""One iteration, from the batch to the changed weights, in the order in which things happen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from wfvae_toolkit.utils.distributed import average_over_ranks

from .objective import autoencoder_objective, count_active, discriminator_objective
from .passes import gradient_sync


def train_step(model, turns, micro_batches, optimizers):
    """One update of every network whose turn it is.

    Args:
        model (AutoencoderTraining): in training mode.
        turns (tuple[str]): networks to train, as of ``model.turns_of(iteration)``.
        micro_batches (list[Batch]): of this iteration; the gradient is the mean of theirs.
        optimizers (OptimWrapperDict): one TurnOptimizer a network.

    Returns:
        Update: if a gradient is not finite, no weight has changed and ``skipped`` names the first term at fault.
    """
    logs, share = [], len(micro_batches)
    for number, batch in enumerate(micro_batches, 1):
        last = number == share
        images = model.data_preprocessor(batch.images, training=True)  # uint8 -> [-1, 1] on the device
        extras = model.data_preprocessor.extras(batch.extras)  # masks, captions and the like
        reconstruction, log = None, {}
        if 'autoencoder' in turns:
            with gradient_sync(model.network_pass('autoencoder'), last):
                outputs = model.reconstruct(images, batch.seeds, extras=extras)  # and posterior, latents, bands
                loss, log = autoencoder_objective(model, outputs)
                optimizers['autoencoder'].backward(loss / share)
            reconstruction = outputs.reconstruction.detach()
        if 'discriminator' in turns:
            with gradient_sync(model.network_pass('discriminator'), last):
                if reconstruction is None:
                    reconstruction = model.reconstruct_without_gradient(images, batch.seeds)
                loss, scores = discriminator_objective(model, model.judge(images, reconstruction, batch.seeds, extras))
                optimizers['discriminator'].backward(loss / share)
            log.update(scores)
        logs.append(log)
    return _apply(model, turns, logs, optimizers)


@dataclass
class Update(Mapping):
    """Result of one iteration: detached scalars and vectors by name; ``skipped`` names what was not finite.

    As a mapping it is its scalars, which is what hooks of MMEngine expect of ``outputs``.
    """

    turns: tuple[str, ...]
    log: dict[str, torch.Tensor]
    skipped: str | None = None

    def __getitem__(self, name):
        return self.log[name]

    def __iter__(self):
        return (name for name, value in self.log.items() if value.ndim == 0)

    def __len__(self):
        return sum(1 for _ in self)


def _apply(model, turns, logs, optimizers):
    """Change the weights unless a gradient is not finite. The log is the mean over the micro-batches."""
    if 'autoencoder' in turns:
        # Learnable losses stand outside DDP.
        outside = [*model.losses.parameters(), model.logvar]
        average_over_ranks([parameter.grad for parameter in outside if parameter.grad is not None])
    log = {name: torch.stack([log[name] for log in logs]).mean(0) for name in logs[0]}
    if 'kl_channel' in log:
        log['active_channels'] = count_active(log)
    norms = {f'gradient_norm/{turn}': optimizers[turn].gradient_norm() for turn in turns}
    log.update(norms)
    # The one place of an iteration that waits for the device.
    finite = bool(torch.isfinite(torch.stack(list(norms.values()))).all())
    for turn in turns:
        optimizers[turn].finish(finite)
    if finite and 'discriminator' in turns:
        for row in model.discriminator_rows().values():
            row.after_update(log)
    return Update(turns, log, None if finite else _first_not_finite(log))


def _first_not_finite(log):
    """Name of the first term of a log that is not finite; a gradient's name if all terms are."""
    # The weight follows from the rows' gradients, though it is logged before them.
    terms = sorted(log, key=lambda name: (name.startswith('gradient_norm/'), name.startswith('adaptive_weight')))
    return next(name for name in terms if not math.isfinite(log[name].sum().item()))
