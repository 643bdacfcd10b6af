"""Which kernels a piece of work launches: counts, arithmetic and bytes moved that no machine's noise touches."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_aten = torch.ops.aten
# torch counts the GPU's fused attention, but not the CPU's.
_FLOPS = {
    **flop_registry,
    _aten._scaled_dot_product_flash_attention_for_cpu:
        lambda query, key, value, *_, **__: sdpa_flop_count(query.shape, key.shape, value.shape),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward:
        lambda gradient, query, key, value, *_, **__: sdpa_backward_flop_count(
            gradient.shape, query.shape, key.shape, value.shape),
}
_COPIES = {_aten.clone, _aten.copy_, _aten._to_copy, _aten.contiguous}


_NO_WORK = ('empty', 'new_empty', 'detach', 'set_', 'resize_')  # beginnings of names


@dataclass(frozen=True)
class TensorSpec:
    """What a kernel needs to know of a tensor to be run again on other numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Kernel:
    """One call that does matrix arithmetic; tensors among ``arguments`` are TensorSpecs."""

    op: object
    arguments: tuple
    options: tuple  # sorted pairs


class KernelRecorder(TorchDispatchMode):
    """Records all that runs inside ``with``, backward passes included.

    ``kernels``: Counter of the calls that do matrix arithmetic (convolutions, matrix products, fused attention);
    ``flops``: theirs, a multiply and an add are 2; ``calls``: Counter of every operation by name; ``copied_bytes``:
    written by copies and by changes of layout or dtype.
    """

    def __init__(self):
        super().__init__()
        self.kernels, self.calls = Counter(), Counter()
        self.flops = self.copied_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        self.calls[packet.__name__] += 1
        if packet in _FLOPS:
            self.flops += flops_of(func, args, kwargs, out)
            self.kernels[Kernel(func, _specify(args), tuple(sorted(_specify(kwargs).items())))] += 1
        if packet in _COPIES and isinstance(out, torch.Tensor):
            self.copied_bytes += out.numel() * out.element_size()
        return out


def flops_of(operation, arguments, options, result):
    """FLOPs of one call of a matrix operation, a multiply and an add are 2; 0 for any other."""
    count = _FLOPS.get(operation._overloadpacket)
    return count(*arguments, **options, out_val=result) if count else 0


def record(function):
    """Run ``function()`` once under a KernelRecorder and return it."""
    with KernelRecorder() as recorder:
        function()
    return recorder


def saved_bytes(function, modules=()):
    """Most bytes that autograd keeps for backward at one time while ``function()`` runs, each storage once.

    Parameters and buffers of ``modules`` are there anyway and not counted; graphs that are freed on the way count as
    long as they live. ``function`` returns what keeps its last graph alive, such as a loss, or None.
    """
    ledger = _Ledger()
    there = {tensor.untyped_storage().data_ptr() for module in modules
             for tensor in (*module.parameters(), *module.buffers())}

    def pack(tensor):
        return tensor if tensor.untyped_storage().data_ptr() in there else _Kept(tensor, ledger)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: getattr(kept, 'tensor', kept)):
        kept = function()
    del kept
    return ledger.peak


class _Ledger:
    """Storages that graphs hold now, and the most bytes that it ever was."""

    def __init__(self):
        self.holders = Counter()
        self.live = self.peak = 0

    def change(self, storage, by):
        pointer = storage.data_ptr()
        before = self.holders[pointer]
        self.holders[pointer] += by
        if not before or not self.holders[pointer]:
            self.live += by * storage.nbytes()
            self.peak = max(self.peak, self.live)


class _Kept:
    """A tensor in a graph; the graph's end takes it off the ledger."""

    def __init__(self, tensor, ledger):
        self.tensor, self.ledger = tensor, ledger
        ledger.change(tensor.untyped_storage(), +1)

    def __del__(self):
        self.ledger.change(self.tensor.untyped_storage(), -1)


def _specify(value):
    if isinstance(value, torch.Tensor):
        return TensorSpec(tuple(value.shape), value.dtype)
    if isinstance(value, (list, tuple)):
        return tuple(_specify(item) for item in value)
    if isinstance(value, dict):
        return {name: _specify(item) for name, item in value.items()}
    return value


class WorkMeter:
    """Counts each operation by (FLOPs, bytes read and written, whether in bf16 or fp16); see `count_memory`."""

    def __init__(self):
        self._work = Counter()

    def __call__(self, operation, arguments, options, result):
        results = [value for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        inputs = [value for value in tree_leaves((arguments, options)) if isinstance(value, torch.Tensor)]
        changes = operation._schema.is_mutable
        if not changes and _shares_storage(results, inputs) or operation._overloadpacket.__name__.startswith(_NO_WORK):
            return
        flops = flops_of(operation, arguments, options, result)
        moved = sum(_size(tensor) for tensor in {id(tensor): tensor for tensor in (*inputs, *results)}.values())
        low = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in inputs)
        self._work[flops, moved, low] += 1

    def take(self):
        """Counter of the operations since the last call."""
        work, self._work = self._work, Counter()
        return work


def _shares_storage(results, inputs):
    there = {tensor.untyped_storage()._cdata for tensor in inputs}
    return bool(results) and all(tensor.untyped_storage()._cdata in there for tensor in results)


def _size(tensor):
    # What an expanded tensor repeats is read once.
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
