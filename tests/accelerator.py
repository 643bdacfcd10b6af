"""An accelerator for a machine without one: torch's PrivateUse1, whose tensors claim a device and compute on the CPU.

It is strict. An operation on tensors of two devices is refused, as CUDA refuses it. What waits for a real device is
counted by its place in the package: a value read (``item``, ``bool``, ``tolist``), and a copy between host and device
unless it comes from pinned memory and need not wait. ``float64=False`` refuses that type, as MPS does.
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from wfvae_toolkit.utils import device as devices

NAME = 'strict'
PACKAGE = str(Path(devices.__file__).parents[1])
# Older versions of torch want a device in C++.
EXISTS = hasattr(backend_registration, '_setup_privateuseone_for_python_backend')

_aten = torch.ops.aten
_READS = {_aten._local_scalar_dense.default, _aten.equal.default, _aten.nonzero.default, _aten.masked_select.default,
          _aten.is_nonzero.default, _aten.repeat_interleave.Tensor}
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default}
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
# What CUDA's autocast computes in 16 bits, of what the networks use.
_LOW_PRECISION = ('conv1d', 'conv2d', 'conv_transpose2d.input', 'linear', 'matmul', 'mm', 'bmm', 'addmm', 'baddbmm',
                  'scaled_dot_product_attention')


@contextlib.contextmanager
def accelerator(float64=True):
    """Inside, torch finds the accelerator 'strict'; gives its `Strict` mode, whose ``waits`` are the counted places."""
    _register()
    _backend.available = True
    devices._PINNING.add(NAME)
    devices._has_float64.cache_clear()
    try:
        with Strict(float64) as mode:
            yield mode
    finally:
        _backend.available = False
        devices._PINNING.discard(NAME)
        devices._has_float64.cache_clear()


class StrictTensor(torch.Tensor):
    """Numbers on the CPU under another device's name."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), storage_offset=numbers.storage_offset(), dtype=numbers.dtype,
            device=f'{NAME}:0')
        tensor.numbers = numbers
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f'{func} outside of `accelerator`')

    def tolist(self):
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol):
        return self.numbers.__reduce_ex__(protocol)  # a checkpoint is read again as a file of the CPU

    def __repr__(self):
        return f'StrictTensor({tuple(self.shape)}, {self.dtype})'


class Strict(TorchDispatchMode):
    """See the module. ``waits``: Counter of (place in the package, what it does)."""

    def __init__(self, float64):
        super().__init__()
        self.float64, self.waits = float64, Counter()
        self._pinned, self._lifts = set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # In inference mode, operations that torch composes of others come here whole.
        with self:
            result = func.decompose(*args, **(kwargs or {}))
        return self._run(func, args, kwargs or {}) if result is NotImplemented else result

    def _run(self, func, args, kwargs):
        options = dict(kwargs)
        wanted = options.get('device')
        if wanted is not None:
            wanted = torch.device(wanted).type
            options['device'] = 'cpu' if wanted == NAME else options['device']
        if func is _aten._pin_memory.default:
            self._pinned.add(args[0].untyped_storage()._cdata)
            return args[0]
        if func is _aten.is_pinned.default:
            return False
        tensors, wrappers = [], {}
        args, options = (tree_map(lambda value: self._unwrap(value, tensors, wrappers), part)
                         for part in (args, options))
        here = [isinstance(tensor, StrictTensor) for tensor in tensors]
        if func in _COPIES or wanted is not None and tensors:
            self._note_copy(func, tensors, here, wanted, options, args)
        elif any(here) and not all(here):
            self._check_mixture(func, tensors, here)
        if any(here) and (func in _READS or func in _INDEXING and _is_mask(args)):
            self._note(f'reads ({func._overloadpacket.__name__})')
        result = func(*args, **options)
        on_device = wanted == NAME if wanted is not None else any(here)
        if func in _COPIES and func is _aten.copy_.default:
            on_device = here[0]
        return tree_map(lambda value: self._wrap(value, wrappers, on_device), result)

    def _unwrap(self, value, tensors, wrappers):
        if not isinstance(value, torch.Tensor):
            return value
        tensors.append(value)
        if isinstance(value, StrictTensor):
            wrappers[id(value.numbers)] = value
            return value.numbers
        return value

    def _wrap(self, value, wrappers, on_device):
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in wrappers:  # an operation in place
            wrapper = wrappers[id(value)]
            assert wrapper.shape == value.shape, 'an operation in place changed a shape'
            return wrapper
        if not on_device:
            return value
        if not self.float64 and value.dtype == torch.float64:
            raise TypeError(f'{NAME} has no float64')
        # An ordinary tensor also in inference mode, whose views of weights are ordinary ones.
        with torch.inference_mode(False):
            return StrictTensor(value)

    def __enter__(self):
        # torch.tensor(..., device=) then makes a tensor of the CPU and copies it, which this mode sees.
        self._lifts.append(torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self._lifts.pop())
        return super().__exit__(*error)

    def _check_mixture(self, func, tensors, here):
        # As on CUDA, a number in a 0-dim CPU tensor may join, and indices may lie on the CPU.
        strangers = [tensor for tensor, ours in zip(tensors, here, strict=True) if not ours and tensor.dim()]
        if strangers and func not in _INDEXING:
            raise RuntimeError(f'{func}: tensors on {NAME} and on the CPU, the latter of shape '
                               f'{[tuple(tensor.shape) for tensor in strangers]}')
        if strangers:
            self._note('copies to the device (index)')

    def _note_copy(self, func, tensors, here, wanted, options, args):
        if func is _aten.copy_.default:
            source, target = here[1], here[0]
            waits = not (args[2] if len(args) > 2 else options.get('non_blocking'))
            origin = tensors[1]
        else:
            source, origin = here[0], tensors[0]
            target = source if wanted is None else wanted == NAME
            waits = not options.get('non_blocking')
        if source == target:
            return
        if source:
            self._note('copies to the host')
        elif waits or origin.untyped_storage()._cdata not in self._pinned:
            self._note('copies to the device')

    def _note(self, what):
        self.waits[_place(), what] += 1


def _is_mask(args):
    return any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1] or ())


def _place():
    """'training/train_step.py _apply': the innermost function of the package that runs now."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        # A comprehension is a function of its own until Python 3.12.
        if file.startswith(PACKAGE) and not frame.f_code.co_name.startswith('<'):
            return f'{file[len(PACKAGE) + 1:]} {frame.f_code.co_name}'
        frame = frame.f_back
    return 'outside'


class _Backend:
    """torch.strict: what torch asks a module of a device."""

    available = False

    def is_available(self):
        return self.available

    def is_initialized(self):
        return True

    def current_device(self):
        return 0

    def device_count(self):
        return int(self.available)

    def manual_seed_all(self, seed):
        pass

    def _is_in_bad_fork(self):
        return False

    def get_amp_supported_dtype(self):
        return [torch.float16, torch.bfloat16]

    def synchronize(self, device=None):
        pass


_backend = _Backend()
_libraries = []  # registrations live as long as these


def _register():
    if _libraries:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, _backend)
    fallback = torch.library.Library('_', 'IMPL')
    fallback.fallback(torch.library.fallthrough_kernel, 'AutocastPrivateUse1')
    library = torch.library.Library('aten', 'IMPL')
    for name in _LOW_PRECISION:
        library.impl(name, _in_low_precision(name), 'AutocastPrivateUse1')
    _libraries.extend([fallback, library])


def _in_low_precision(name):
    packet, _, overload = name.partition('.')
    operation = getattr(getattr(_aten, packet), overload or 'default')

    def run(*args, **options):
        dtype = torch.get_autocast_dtype(NAME)

        def lowered(value):
            floats = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64
            return value.to(dtype) if floats else value

        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            return operation(*tree_map(lowered, args), **tree_map(lowered, options))
    return run
