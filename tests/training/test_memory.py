"""Peaks of a training's phases, counted without arithmetic and measured."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.training.memory import (
    AFTER,
    BEFORE,
    CHECKPOINT,
    DISCRIMINATOR,
    JOINT,
    VALIDATION,
    LiveStorages,
    Load,
    NotCounted,
    TooLarge,
    count_memory,
    describe,
    largest_batch,
    measure_memory,
    ways_to_fit,
    with_measured,
)
from wfvae_toolkit.training.train_step import train_step

ROW = dict(optimizer=dict(type='AdamW', lr=1e-3))
OPTIMIZERS = dict(constructor='TurnOptimizers', autoencoder=ROW, discriminator=ROW)
LOAD = Load(batch=2, size=16, val_batch=1, val_size=32, average=True, start_iter=5)
KIB = 1024


class Numbers(Loss):
    """A plug-in's loss that needs numbers."""

    def forward(self, step):
        return step.reconstruction.sum() * float(step.target.numpy().mean())


def sizes(network):
    """Bytes of a network's parameters and buffers, in the allocator's granules."""
    return sum(-(-t.numel() * t.element_size() // 512) * 512 for t in (*network.parameters(), *network.buffers()))


def test_storages_live_as_long_as_tensors_and_graphs_hold_them():
    with FakeTensorMode(), LiveStorages() as storages:
        x = torch.zeros(256, requires_grad=True)  # 1 KiB
        y = x.exp()
        view = y[:3]
        del y
        assert storages.live['activations'] == 2 * KIB  # the view holds all of y
        del view
        assert storages.live['activations'] == KIB
        z = x.exp().sin().sum()  # both results are kept for backward
        assert storages.live['activations'] == 3 * KIB + 512
        z.backward()
        assert storages.live['activations'] >= 2 * KIB + 512  # x, its gradient, z
        del x, z
        assert storages.live['activations'] == 0
        assert storages.peak['activations'] >= 3 * KIB + 512


def test_fake_tensors_live_as_long_as_real_ones(make_model, make_optimizers, make_batch, make_images):
    model = make_model()
    phases = {phase.name: phase for phase in count_memory(
        model, dict(OPTIMIZERS, autoencoder=dict(optimizer=dict(type='SGD', lr=1e-3)),
                    discriminator=dict(optimizer=dict(type='SGD', lr=1e-3))), LOAD).phases}
    batch, optimizers = make_batch(make_images(2, 16, 16)), make_optimizers(model)
    for name, turn in ((AFTER, 'autoencoder'), (DISCRIMINATOR, 'discriminator')):
        storages = LiveStorages()
        for parameter in (*model.parameters(), *model.buffers()):
            storages.add(parameter, 'parameters')
        storages.reset()
        with storages:
            train_step(model, (turn,), [batch], optimizers)
        found = storages.peak['activations'] + storages.peak.get('gradients', 0)
        expected = phases[name].parts['activations'] + phases[name].parts.get('gradients', 0)
        assert found == pytest.approx(expected, rel=0.05)


def test_what_is_held_is_exact(make_model):
    model = make_model()
    phases = {phase.name: phase for phase in count_memory(model, OPTIMIZERS, LOAD).phases}
    assert list(phases) == [BEFORE, DISCRIMINATOR, AFTER, VALIDATION, CHECKPOINT]
    networks = sizes(model.autoencoder) + sizes(model.discriminator)
    held = phases[CHECKPOINT].parts
    assert held['parameters'] == pytest.approx(networks, rel=0.02)
    assert held['average'] == pytest.approx(sizes(model.autoencoder), rel=0.1)  # one block in place of granules
    trained = sum(p.numel() * 4 for p in model.parameters())
    assert held['optimizers'] == pytest.approx(2 * trained, rel=0.25)  # two moments, steps, granules
    # Before the discriminator starts its optimizer has no state.
    own = sum(p.numel() * 4 for p in model.discriminator.parameters())
    assert held['optimizers'] - phases[BEFORE].parts['optimizers'] == pytest.approx(2 * own, rel=0.25)


def test_activations_grow_with_pixels_and_batch_and_nothing_else_does(make_model):
    model = make_model()
    small, batch, pixels = (count_memory(model, OPTIMIZERS, load).largest for load in (
        LOAD, replace(LOAD, batch=4), replace(LOAD, size=32, val_size=None)))
    for large, factor in ((batch, 2), (pixels, 4)):
        assert large.parts['optimizers'] == small.parts['optimizers']
        assert large.parts['activations'] / small.parts['activations'] == pytest.approx(factor, rel=0.35)


def test_a_second_micro_batch_meets_gradients_and_ddp_keeps_them_all(make_model):
    model = make_model()
    trained = sum(p.numel() * 4 for p in model.parameters())
    one, two, ranks = (count_memory(model, OPTIMIZERS, load).phases[2] for load in (
        LOAD, replace(LOAD, accumulation=2), replace(LOAD, world_size=2)))
    assert two.peak_bytes > one.peak_bytes
    assert two.parts['gradients'] > one.parts.get('gradients', 0)
    assert ranks.parts['gradients'] == trained


def test_what_saves_memory_is_counted(make_model):
    model = make_model()
    load = replace(LOAD, size=64, val_size=None)
    plain, recomputed = (count_memory(model, OPTIMIZERS, replace(load, checkpoint_activations=way)).largest.peak_bytes
                         for way in (False, True))
    assert recomputed < plain


def test_joint_turns_are_one_phase(make_model):
    names = [phase.name for phase in count_memory(make_model(turns='joint'), OPTIMIZERS, LOAD).phases]
    assert names == [BEFORE, JOINT, VALIDATION, CHECKPOINT]
    alone = make_model(losses=dict(pixel=dict(type='L1Loss')))
    assert [phase.name for phase in count_memory(alone, OPTIMIZERS, replace(LOAD, val_batch=None)).phases] == [
        AFTER, CHECKPOINT]


@pytest.mark.parametrize('work', ['count', 'measure'])
def test_nothing_of_the_model_changes(make_model, make_optimizers, work):
    model = make_model(discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8, norm='batch'))
    model.discriminator_started = False
    optimizers = make_optimizers(model)
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    if work == 'count':
        count_memory(model, OPTIMIZERS, LOAD)
    else:
        measure_memory(model, optimizers, LOAD, allocator=Allocator())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (model.training, model.discriminator_started) == (True, False)
    assert not any(optimizers[turn].optimizer.state for turn in ('autoencoder', 'discriminator'))


class Allocator:
    """Stands for torch.cuda: every phase takes 1 MiB more than the one before; ``ends_in`` the memory ends."""

    def __init__(self, ends_in=None):
        self.phase, self.ends_in = 0, ends_in

    def reset_peak_memory_stats(self):
        self.phase += 1

    def memory_allocated(self):
        return 5 * KIB**2

    def max_memory_allocated(self):
        if self.phase == self.ends_in:
            raise AssertionError('the phase went on')
        return (5 + self.phase) * KIB**2


def test_measured_peaks_take_the_place_of_counted_activations(make_model, make_optimizers):
    model = make_model()
    counted = count_memory(model, OPTIMIZERS, LOAD)
    increases = measure_memory(model, make_optimizers(model), LOAD, allocator=Allocator())
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


def test_a_loss_that_needs_numbers_is_said(make_model):
    model = make_model(losses=dict(pixel=dict(type='L1Loss'), mine=dict(type=Numbers)))
    with pytest.raises(NotCounted, match='numpy'):
        count_memory(model, OPTIMIZERS, LOAD)


@pytest.mark.parametrize(('limit', 'batch'), [(99, 0), (100, 0), (110, 1), (149, 4), (150, 5), (1000, 90)])
def test_largest_batch(limit, batch):
    assert largest_batch(lambda images: 100 + 10 * images, limit) == batch


def test_ways_to_fit_are_those_that_fit():
    def count(load):
        image = load.size**2 * (0.5 if load.precision == 'bf16' else 1.0) * (0.8 if load.checkpoint_activations else 1)
        return SimpleNamespace(largest=SimpleNamespace(peak_bytes=1000 + load.batch * image))

    ways = ways_to_fit(Load(batch=4, size=64), count, 1000 + 2.5 * 64**2, 'fp32', 8)
    assert [way.partition(' (')[0] for way in ways] == [
        'train_dataloader.batch_size=2 with train_cfg.accumulation=2', 'model.precision=bf16', 'crops of 32 px']
    assert ways_to_fit(Load(batch=4, size=64), count, 999, 'fp32', 8) == []
