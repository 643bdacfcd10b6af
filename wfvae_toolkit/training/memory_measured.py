"""Peak memory of every phase of a training, measured on its GPU before it begins."""

import contextlib
from dataclasses import replace

import torch

from wfvae_toolkit.utils.seeding import seeded

from .memory import VALIDATION, micro_batches, turns_of, validate_once
from .train_step import train_step


class TooLarge(Exception):
    """A phase that does not fit into the device's memory; ``args``: its name."""


def measure_memory(model, optimizers, load, extras=None, networks=(), allocator=torch.cuda):
    """Bytes that each phase allocates at its peak beyond what was there before: name -> bytes.

    Runs the turns with the whole batch and a validation on the model's device. Weights, buffers, gradients, optimizers
    and random generators stay unchanged.

    Args:
        model (AutoencoderTraining): on its device, under DDP if it is distributed.
        optimizers (OptimWrapperDict): of the run.
        load, extras, networks: as of `count_memory`.
        allocator (module): torch.cuda, or what has its functions for memory.

    Raises:
        TooLarge: the device's memory ended in this phase.
    """
    increases = {}

    def measure(name, work):
        allocator.reset_peak_memory_stats()
        before = allocator.memory_allocated()
        try:
            work()
        except torch.OutOfMemoryError as error:
            raise TooLarge(name) from error
        increases[name] = allocator.max_memory_allocated() - before

    rehearsed = {turn: _WithoutStep(wrapper) for turn, wrapper in optimizers.items()}
    with unchanged(model), seeded(0), torch.random.fork_rng(), torch.compiler.set_stance('force_eager'):
        for name, turns, adversarial in turns_of(model, load.start_iter):
            model.discriminator_started = adversarial
            measure(name, lambda turns=turns: train_step(model, turns, micro_batches(load, extras or {}), rehearsed))
        if load.val_batch and load.val_size:
            measure(VALIDATION, lambda: validate_once(model.autoencoder.eval(), load, networks))
    return increases


def with_measured(forecast, increases, device):
    """A counted Forecast with the activations that `measure_memory` found on ``device``, a name."""
    phases = []
    for phase in forecast.phases:
        if phase.name in increases:
            # DDP's buffer of gradients was there before.
            there = forecast.load.world_size > 1
            activations = increases[phase.name] - (0 if there else phase.parts.get('gradients', 0))
            phase = replace(phase, parts={**phase.parts, 'activations': activations})
        phases.append(phase)
    return replace(forecast, phases=tuple(phases), source=device)


@contextlib.contextmanager
def unchanged(model):
    """Put back buffers, mode, gradients and switches of a training model after the block."""
    was_training, started = model.training, model.discriminator_started
    buffers = [(module, name, buffer, buffer.clone()) for module in model.modules()
               for name, buffer in module._buffers.items() if buffer is not None]
    try:
        yield
    finally:
        for module, name, buffer, value in buffers:
            with torch.no_grad():
                module._buffers[name] = buffer.copy_(value)
        model.zero_grad(set_to_none=True)
        model.train(was_training)
        model.discriminator_started = started


class _WithoutStep:
    """What `train_step` needs of a TurnOptimizer, without a change of weights, moments or scale."""

    def __init__(self, wrapper):
        self._wrapper = wrapper

    def backward(self, loss):
        scaler = self._wrapper.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()

    def gradient_norm(self):
        return torch.nn.utils.get_total_norm([
            parameter.grad for group in self._wrapper.optimizer.param_groups for parameter in group['params']
            if parameter.grad is not None])

    def finish(self, apply):
        self._wrapper.optimizer.zero_grad()
