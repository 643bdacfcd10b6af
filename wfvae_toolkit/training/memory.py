"""Peak memory of every phase of a training, counted before it begins.

Counting runs the real update on torch's fake tensors, which have shapes and storages but no numbers, and follows how
long each storage lives. So it needs neither the memory nor the arithmetic of the network.
"""

import copy
import math
import weakref
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wfvae_toolkit.datasets.loader import Batch
from wfvae_toolkit.evaluation.run import reconstruct
from wfvae_toolkit.models.sizes import size_text
from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import UserError
from wfvae_toolkit.utils.seeding import seeded

from .train_step import train_step

# What memory holds at a phase's peak. `activations`: of the networks and losses, their gradients and temporaries.
KINDS = ('parameters', 'frozen networks', 'average', 'optimizers', 'gradients', 'activations')
BEFORE, AFTER = 'autoencoder turn before the discriminator starts', 'autoencoder turn'
DISCRIMINATOR, JOINT, VALIDATION, CHECKPOINT = 'discriminator turn', 'joint turn', 'validation', 'checkpoint'
_GRANULE = 512  # bytes: torch's allocators give a multiple of it


class NotCounted(UserError, RuntimeError):
    """Some code of the run needs numbers, which counting does not have; the message says which."""


@dataclass(frozen=True)
class Load:
    """What a run puts into memory on one device.

    Attributes:
        batch (int): images of a micro-batch.
        size (int | tuple[int, int]): edge of the training crops in px, or their (height, width).
        accumulation (int): micro-batches of an update.
        val_batch, val_size: of a validation batch, as ``batch`` and ``size``; None: there is no validation,
            or its pictures have any size.
        average (bool): an averaged autoencoder is kept.
        start_iter (int): where adversarial terms start; 0: there is no turn without them.
        world_size (int): processes; with several, DDP keeps a buffer of all gradients.
        precision (str): in place of the model's; None: as it is.
        checkpoint_activations (bool): compute stages again in backward even if the config does not.
    """

    batch: int
    size: int | tuple[int, int]
    accumulation: int = 1
    val_batch: int | None = None
    val_size: int | tuple[int, int] | None = None
    average: bool = True
    start_iter: int = 0
    world_size: int = 1
    precision: str | None = None
    checkpoint_activations: bool = False

    @property
    def shape(self):
        """(height, width) of the training crops in px."""
        return shape_of(self.size)

    @property
    def edge(self):
        """Edge in px of a square with as many pixels as a training crop, rounded down."""
        return math.isqrt(math.prod(self.shape))

    def in_stage(self, stage, size):
        """This load in a `Stage` of a training, whose crops have ``size``.

        Adversarial terms may start in an earlier stage; this one then has no turn without them.
        """
        return replace(self, batch=stage.batch_size, size=size, accumulation=stage.accumulation,
                       start_iter=max(0, self.start_iter - stage.start_iter))


def shape_of(size):
    """Edge of a square, or (height, width), in px -> (height, width)."""
    return size if isinstance(size, tuple) else (size, size)


@dataclass(frozen=True)
class Phase:
    """Peak of one phase. ``parts``: kind of KINDS -> bytes at that moment; ``work``: what a ``meter`` counted in it."""

    name: str
    parts: dict[str, int]
    work: object = None

    @property
    def peak_bytes(self):
        return sum(self.parts.values())


@dataclass(frozen=True)
class Forecast:
    """Phases in the order in which a run meets them; ``source`` is 'counted', or the name of the device measured."""

    load: Load
    phases: tuple[Phase, ...]
    source: str = 'counted'

    @property
    def largest(self):
        return max(self.phases, key=lambda phase: phase.peak_bytes)


def largest_size(sizes):
    """[(height, width)] in px -> the one with the most pixels, as ``Load.size``: the edge of a square; None of none."""
    height, width = max(sizes, key=math.prod, default=(None, None))
    return height if height == width else (height, width)


def describe(forecast):
    """Forecast -> lines of a table, in GiB (2^30 bytes), or MiB if all of it is less than one."""
    load = forecast.load
    unit, size, digits = ('GiB', 2**30, 2) if forecast.largest.peak_bytes >= 2**30 else ('MiB', 2**20, 1)
    kinds = [kind for kind in KINDS if any(phase.parts.get(kind) for phase in forecast.phases)]
    width = max(len(phase.name) for phase in forecast.phases)
    lines = [f'memory ({forecast.source}), peaks in {unit}, {load.batch} x {size_text(load.shape)} px a micro-batch',
             f'{"":<{width}}  {"peak":>7}  ' + '  '.join(kinds)]
    for phase in forecast.phases:
        cells = '  '.join(f'{phase.parts.get(kind, 0) / size:>{len(kind)}.{digits}f}' for kind in kinds)
        lines.append(f'{phase.name:<{width}}  {phase.peak_bytes / size:>7.{digits}f}  {cells}')
    return lines


class LiveStorages(TorchDispatchMode):
    """Follows the storages of all tensors made inside ``with``.

    A number that code reads from a fake tensor is made up: True for a bool, so that gradients count as finite, else 1.

    Args:
        on_operation (callable): gets (operation, arguments, options, result) of everything that runs.

    Attributes:
        live (Counter): kind -> bytes that are alive now.
        peak (dict[str, int]): the same at the moment of the largest sum since `reset`.
        kind (str): of new storages.
    """

    def __init__(self, on_operation=None):
        super().__init__()
        self.live, self.peak, self.kind = Counter(), {}, 'activations'
        self._known = {}  # address of a storage -> (weak reference, kind, bytes)
        self._total = self._most = 0
        self._on_operation = on_operation

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return True if args[0].dtype == torch.bool else 1
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor, self.kind)
        if self._on_operation is not None:
            self._on_operation(func, args, kwargs or {}, out)
        return out

    def reset(self):
        self.peak, self._most = dict(self.live), self._total

    def add(self, tensor, kind):
        """Count a tensor's storage, once. One that was among the activations changes to ``kind``."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            reference, before, size = self._known[key]
            if before == 'activations' != kind:
                self._known[key] = reference, kind, size
                self._change(before, -size)
                self._change(kind, size)
            return
        size = _in_granules(storage.nbytes())
        self._known[key] = weakref.ref(storage, lambda _: self._free(key)), kind, size
        self._change(kind, size)

    def hold(self, kind, size):
        """Count ``size`` bytes that never end."""
        self._change(kind, size)

    def _free(self, key):
        _, kind, size = self._known.pop(key)
        self._change(kind, -size)

    def _change(self, kind, size):
        self.live[kind] += size
        self._total += size
        if self._total > self._most:
            self.peak, self._most = dict(self.live), self._total


def count_memory(model, optim_wrapper, load, extras=None, networks=(), meter=None):
    """Forecast of a training; the model and torch's generators stay unchanged.

    Args:
        model (AutoencoderTraining): on any device, ``meta`` too.
        optim_wrapper (dict): the config's.
        load (Load): batch, size and what else counts.
        extras (dict): extra fields of a batch, see ``Batch.extras``.
        networks (Sequence[nn.Module]): (reconstruction, target) -> distances, with which a validation scores.
        meter (callable): gets (operation, arguments, options, result) of everything that runs; ``meter.take()``, called
            at the end of a phase, returns what is kept as its ``work``.

    Raises:
        NotCounted: a part needs numbers, such as a loss that calls ``numpy()``.
    """
    try:
        # Not compiled: a fake tensor would leave code behind.
        with distributed.alone(), seeded(0), torch.compiler.set_stance('force_eager'):
            mode = FakeTensorMode(allow_non_fake_inputs=True)
            fake, *networks = _without_numbers([model, *networks], mode)
            with mode:
                return Forecast(load, tuple(_count_phases(fake, optim_wrapper, load, extras or {}, networks,
                                                            meter)))
    except UserError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise NotCounted(f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}') from error


def _without_numbers(modules, mode):
    """Copies whose parameters and buffers are fake tensors of the CPU; a pass stands for DDP around it."""
    memo = {}
    with mode:
        for tensor in chain.from_iterable(map(_tensors, modules)):
            fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
            memo[id(tensor)] = (torch.nn.Parameter(fake, tensor.requires_grad)
                                if isinstance(tensor, torch.nn.Parameter) else fake)
    for name in getattr(modules[0], '_passes', {}):
        network_pass = modules[0].network_pass(name)
        memo[id(network_pass)] = copy.deepcopy(getattr(network_pass, 'module', network_pass), memo)
    copies = [copy.deepcopy(module, memo) for module in modules]
    copies[0].data_preprocessor.cpu()
    return copies


def _tensors(network):
    """Parameters, buffers, and tensors that are plain attributes, such as a weight that spectral norm has computed."""
    plain = (value for module in network.modules() for value in vars(module).values()
             if isinstance(value, torch.Tensor))
    return chain(network.parameters(), network.buffers(), plain)


def _count_phases(model, optim_wrapper, load, extras, networks, meter):
    take = meter.take if meter else lambda: None
    model.precision = load.precision or model.precision
    if load.checkpoint_activations:
        checkpoint_activations(model.autoencoder)
    optimizers = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(
        type=optim_wrapper.get('constructor', 'TurnOptimizers'),
        optim_wrapper_cfg={name: row for name, row in optim_wrapper.items() if name != 'constructor'}))(model)
    storages = LiveStorages(meter)
    _hold(storages, model, networks, load)
    phases, started = turns_of(model, load.start_iter), set()
    both = {turn for _, turns, _ in phases for turn in turns}
    with storages:
        for name, turns, adversarial in phases:
            model.discriminator_started = adversarial
            # Where turns alternate, each optimizer keeps its state during the other's turn.
            begun = both if adversarial else set(turns)
            for turn in sorted(begun - started):
                _step_once(storages, optimizers[turn])
            started |= begun
            storages.reset()
            take()
            train_step(model, turns, micro_batches(load, extras), optimizers)
            yield Phase(name, _with_buckets(storages.peak, model, load), take())
        held = _with_buckets(dict(storages.live), model, load)
        if load.val_batch and load.val_size:
            storages.reset()
            validate_once(model.autoencoder, load, networks)
            yield Phase(VALIDATION, _with_buckets(storages.peak, model, load), take())
    yield Phase(CHECKPOINT, held)


def checkpoint_activations(autoencoder):
    """Let a network compute its stages again in backward; False if it cannot."""
    halves = [half for half in (autoencoder.encoder, autoencoder.decoder) if hasattr(half, 'checkpoint_activations')]
    for half in halves:
        half.checkpoint_activations = True
    return bool(halves)


def micro_batches(load, extras):
    """At most two: the second meets the gradients of the first, and the third meets no more."""
    images = torch.zeros(load.batch, 3, *load.shape, dtype=torch.uint8)
    numbers = list(range(load.batch))
    batch = Batch(images, [''] * load.batch, numbers, numbers, numbers, bad=[], upsampled=0,
                  extras={name: values[:load.batch] for name, values in extras.items()})
    return [batch] * min(load.accumulation, 2)


def turns_of(model, start_iter):
    """(name of the phase, turns, whether adversarial terms count) of each kind of update of a run, in its order."""
    if model.discriminator is None:
        return [(AFTER, ('autoencoder',), False)]
    phases = [(BEFORE, ('autoencoder',), False)] if start_iter else []
    if model.turns == 'joint':
        return [*phases, (JOINT, ('autoencoder', 'discriminator'), True)]
    return [*phases, (DISCRIMINATOR, ('discriminator',), True), (AFTER, ('autoencoder',), True)]


def _hold(storages, model, networks, load):
    """Count what is there before the first update; gradients are marked where they are accumulated."""
    trained = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    for tensor in chain(model.parameters(), model.buffers()):
        storages.add(tensor, 'parameters' if id(tensor) in trained or tensor.requires_grad else 'frozen networks')
    for tensor in chain.from_iterable(chain(network.parameters(), network.buffers()) for network in networks):
        storages.add(tensor, 'frozen networks')
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda own: storages.add(own.grad, 'gradients'))
    if load.average:
        storages.hold('average', sum(map(_bytes, chain(model.autoencoder.parameters(), model.autoencoder.buffers()))))


def _step_once(storages, optimizer):
    """Let an optimizer make its state."""
    parameters = [parameter for group in optimizer.optimizer.param_groups for parameter in group['params']
                  if parameter.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    storages.kind = 'optimizers'
    optimizer.optimizer.step()  # fp16's scaler would skip it: it finds infinity by a number
    optimizer.optimizer.zero_grad()
    storages.kind = 'activations'


def _with_buckets(parts, model, load):
    """Under DDP a buffer of every gradient is there all the time."""
    parts = {kind: count for kind, count in parts.items() if count > 0}
    if load.world_size > 1:
        parts['gradients'] = sum(_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad)
    return parts


@torch.no_grad()
def validate_once(autoencoder, load, networks):
    """Reconstruct and score a batch of zeros with each set of weights that a validation has."""
    device = next(autoencoder.parameters()).device
    target = torch.zeros(load.val_batch, 3, *shape_of(load.val_size), device=device)
    kept = []
    for _ in range(1 + load.average):
        latent_dist, reconstruction = reconstruct(autoencoder, target)
        kept.append((latent_dist, reconstruction))
        for network in networks:
            network(2 * reconstruction - 1, 2 * target - 1)


def _bytes(tensor):
    return _in_granules(tensor.numel() * tensor.element_size())


def _in_granules(size):
    return -(-size // _GRANULE) * _GRANULE
