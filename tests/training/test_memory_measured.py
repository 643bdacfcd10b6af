"""Peaks of a training's phases, measured."""

from dataclasses import replace

import pytest
import torch

from tests.training.test_memory import FEW, KIB, LOAD, OPTIMIZERS, is_unchanged
from wfvae_toolkit.training.memory import AFTER, BEFORE, DISCRIMINATOR, VALIDATION, count_memory, describe
from wfvae_toolkit.training.memory_measured import TooLarge, measure_memory, with_measured


class Allocator:
    """Stands for torch.cuda: every phase takes 1 MiB more than the one before."""

    phase = 0

    def reset_peak_memory_stats(self):
        self.phase += 1

    def memory_allocated(self):
        return 5 * KIB**2

    def max_memory_allocated(self):
        return (5 + self.phase) * KIB**2


def test_measured_peaks_take_the_place_of_counted_activations(make_model, make_optimizers):
    model = make_model(autoencoder=FEW, discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8))
    load = replace(LOAD, size=16, val_size=16)
    increases = measure_memory(model, make_optimizers(model), load, allocator=Allocator())
    counted = count_memory(model, OPTIMIZERS, LOAD)
    assert increases == {BEFORE: KIB**2, DISCRIMINATOR: 2 * KIB**2, AFTER: 3 * KIB**2, VALIDATION: 4 * KIB**2}
    measured = with_measured(counted, increases, 'measured on a test')
    for before, after in zip(counted.phases[:4], measured.phases, strict=False):
        assert after.parts['activations'] + after.parts.get('gradients', 0) == increases[after.name]
        assert after.parts['parameters'] == before.parts['parameters']
    assert describe(measured)[0].startswith('memory (measured on a test)')


def test_a_phase_that_does_not_fit_is_named(make_model, make_optimizers, monkeypatch):
    model = make_model()

    def judge(*_, **__):
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(type(model), 'judge', judge)
    with pytest.raises(TooLarge, match=f'^{DISCRIMINATOR}$'):
        measure_memory(model, make_optimizers(model), LOAD, allocator=Allocator())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_of_the_model_changes(make_model, make_optimizers):
    model = make_model(autoencoder=FEW, discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8))
    model.discriminator_started = False
    optimizers = make_optimizers(model)
    with is_unchanged(model, optimizers):
        measure_memory(model, optimizers, replace(LOAD, size=16, val_size=16), allocator=Allocator())
