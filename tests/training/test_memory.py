"""Peaks of a training's phases, counted without arithmetic."""

import contextlib
import copy
import functools
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.training import AutoencoderTraining, TurnOptimizers
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
    _with_buckets,
    count_memory,
    largest_size,
    turns_of,
)
from wfvae_toolkit.training.train_step import train_step

ROW = dict(optimizer=dict(type='AdamW', lr=1e-3, fused=True))
OPTIMIZERS = dict(constructor='TurnOptimizers', autoencoder=ROW, discriminator=ROW)
# Counting takes as long for one pixel as for many, and few operations are counted soon.
LOAD = Load(batch=2, size=256, val_batch=1, val_size=256, average=True, start_iter=5)
SHORT = replace(LOAD, start_iter=0, val_batch=None)
FEW = dict(encoder_layers=1, mid_blocks=[])
KIB = 1024


class Numbers(Loss):
    """A plug-in's loss that needs numbers."""

    def forward(self, step):
        return step.reconstruction.sum() * float(step.target.numpy().mean())


def sizes(tensors):
    """Bytes of tensors, in the allocator's granules."""
    return sum(-(-tensor.numel() * tensor.element_size() // 512) * 512 for tensor in tensors)


@contextlib.contextmanager
def is_unchanged(model, optimizers):
    """Fails if the block changes weights, buffers, gradients, mode or switch, an optimizer, or torch's generator."""
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (model.training, model.discriminator_started) == (True, False)
    assert not any(optimizers[turn].optimizer.state for turn in ('autoencoder', 'discriminator'))


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return AutoencoderTraining(
        dict(type='WFVAE2Image', latent_channels=3, widths=(8, 12), flow_width=4, **FEW),
        dict(pixel=dict(type='L1Loss'), kl=dict(type='KLLoss', weight=1e-3),
             adversarial=dict(type='AdversarialLoss', weight=0.5, balance=('pixel',))),
        dict(type='PatchDiscriminator', num_layers=1, width=8)).train()


@pytest.fixture(scope='module')
def counted(model):
    """Load -> {name: phase}, each counted once."""
    return functools.cache(lambda load: {phase.name: phase for phase in count_memory(model, OPTIMIZERS, load).phases})


def test_storages_live_as_long_as_tensors_and_graphs_hold_them():
    with FakeTensorMode(), LiveStorages() as storages:
        x = torch.zeros(256, requires_grad=True)  # 1 KiB
        y = x.exp()
        view = y[:3]
        del y
        assert storages.live['activations'] == 2 * KIB  # the view holds all of y
        del view
        assert storages.live['activations'] == KIB
        z = x.exp().sin().sum()  # the sine keeps its input for backward, and the sum nothing
        assert storages.live['activations'] == 2 * KIB + 512
        z.backward()
        assert storages.live['activations'] == 2 * KIB + 512  # x, its gradient, z
        del x, z
        assert storages.live['activations'] == 0
        assert storages.peak['activations'] >= 3 * KIB


def test_fake_tensors_live_as_long_as_real_ones(model, counted, make_batch):
    expected = counted(LOAD)[AFTER]
    model = copy.deepcopy(model)
    optimizers = TurnOptimizers(OPTIMIZERS)(model)
    batch = make_batch(torch.zeros(2, 3, 256, 256))
    train_step(model, ('autoencoder',), [batch], optimizers)  # makes the optimizer's state
    storages = LiveStorages()
    for tensor in (*model.parameters(), *model.buffers(), batch.images):
        storages.add(tensor, 'parameters')
    storages.reset()
    with storages:
        train_step(model, ('autoencoder',), [batch], optimizers)
    assert storages.peak['activations'] == pytest.approx(
        expected.parts['activations'] + expected.parts.get('gradients', 0), rel=0.05)


def test_what_is_held_is_exact(model, counted):
    phases = counted(LOAD)
    assert list(phases) == [BEFORE, DISCRIMINATOR, AFTER, VALIDATION, CHECKPOINT]
    held = phases[CHECKPOINT].parts
    assert held['parameters'] + held['frozen networks'] == sizes([*model.parameters(), *model.buffers()])
    assert held['average'] == sizes([*model.autoencoder.parameters(), *model.autoencoder.buffers()])
    parameters = list(model.parameters())
    assert held['optimizers'] == 2 * sizes(parameters) + 512 * len(parameters)  # two moments and the steps
    # Before the discriminator starts its optimizer has no state.
    own = list(model.discriminator.parameters())
    assert held['optimizers'] - phases[BEFORE].parts['optimizers'] == 2 * sizes(own) + 512 * len(own)
    # After that each optimizer keeps it during the other's turn, also in a stage that begins later.
    later = counted(replace(LOAD, start_iter=0))
    assert {part.parts['optimizers'] for part in (phases[DISCRIMINATOR], phases[AFTER], *later.values())} == {
        held['optimizers']}


def test_crops_that_are_no_squares_are_counted(counted):
    wide, square = (counted(replace(SHORT, size=size)) for size in ((32, 128), 64))
    assert wide[AFTER].parts['activations'] == pytest.approx(square[AFTER].parts['activations'], rel=0.02)
    load = replace(SHORT, size=(32, 130))
    assert (load.shape, load.edge, replace(load, size=64).shape) == ((32, 130), 64, (64, 64))
    assert [largest_size(sizes) for sizes in ([], [(8, 8)], [(8, 8), (6, 12)])] == [None, 8, (6, 12)]


def test_activations_grow_with_pixels_and_nothing_else_does(counted):
    small, large = (counted(load)[AFTER].parts for load in (LOAD, replace(SHORT, size=512)))
    assert large['optimizers'] == small['optimizers']
    assert large['activations'] / small['activations'] == pytest.approx(4, rel=0.02)


def test_a_second_micro_batch_meets_gradients_and_ddp_keeps_them_all(model, counted):
    one, two = counted(LOAD)[AFTER], counted(replace(SHORT, accumulation=2))[AFTER]
    trained = sizes(parameter for parameter in model.autoencoder.parameters())
    assert two.parts['gradients'] == one.parts.get('gradients', 0) + trained
    ranks = _with_buckets(two.parts, model, replace(LOAD, world_size=2))
    assert ranks['gradients'] == trained + sizes(model.discriminator.parameters())


def test_computing_stages_again_is_counted(counted):
    saved = replace(SHORT, checkpoint_activations=True)
    assert counted(saved)[AFTER].peak_bytes < counted(LOAD)[AFTER].peak_bytes


def test_turns_of_a_run_are_its_phases(make_model):
    joint, alone = make_model(turns='joint'), make_model(losses=dict(pixel=dict(type='L1Loss')))
    assert [name for name, _, _ in turns_of(joint, 5)] == [BEFORE, JOINT]
    assert [name for name, _, _ in turns_of(joint, 0)] == [JOINT]
    assert [name for name, _, _ in turns_of(alone, 5)] == [AFTER]


def test_nothing_of_the_model_changes(make_model, make_optimizers):
    model = make_model(autoencoder=FEW, discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8))
    model.discriminator_started = False
    with is_unchanged(model, make_optimizers(model)):
        count_memory(model, OPTIMIZERS, SHORT)


def test_a_loss_that_needs_numbers_is_said(make_model):
    model = make_model(losses=dict(pixel=dict(type='L1Loss'), mine=dict(type=Numbers)))
    with pytest.raises(NotCounted, match='numpy'):
        count_memory(model, OPTIMIZERS, LOAD)
