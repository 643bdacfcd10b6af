"""The limit of a piece of work: its convolutions, matrix products and fused attentions alone, in their best layout."""

from collections import Counter

import torch

from ..kernels import TensorSpec
from .timing import seconds_of

_LAYOUTS = (torch.contiguous_format, torch.channels_last)


class Limit:
    """The matrix arithmetic of recorded work, to be run on random numbers without all else.

    Each distinct kernel gets the faster of both layouts, found by ``tries`` timed calls; calling the limit then
    runs every recorded kernel as often as the work did.

    Args:
        recorded (KernelRecorder): of the work.
        device (torch.device): where it runs.
        tries (int): timed calls a layout.

    Attributes:
        seconds_of_operations (Counter): operation -> seconds that all its calls take, each timed alone.
    """

    def __init__(self, recorded, device, tries=5):
        # On a GPU the arguments of all kernels at 1024 px would not fit into its memory: kernels share them.
        self._shared = {} if device.type != 'cpu' else None
        self._calls, self.seconds_of_operations = [], Counter()
        for kernel, count in recorded.kernels.items():
            seconds, call = self._fastest(kernel, device, tries)
            self._calls.append((call, count))
            self.seconds_of_operations[kernel.op._overloadpacket.__name__] += count * seconds

    def __call__(self):
        for call, count in self._calls:
            for _ in range(count):
                call()

    def _fastest(self, kernel, device, tries):
        calls = [self._prepare(kernel, device, layout) for layout in _LAYOUTS]
        return min(((seconds_of(call, device, tries), call) for call in calls), key=lambda pair: pair[0])

    def _prepare(self, kernel, device, layout):
        arguments = self._materialize(kernel.arguments, device, layout)
        options = dict(self._materialize(kernel.options, device, layout))
        return lambda: kernel.op(*arguments, **options)

    def _materialize(self, value, device, layout):
        if isinstance(value, TensorSpec):
            return self._tensor(value, device, layout)
        if isinstance(value, tuple):
            return tuple(self._materialize(item, device, layout) for item in value)
        return value

    def _tensor(self, spec, device, layout):
        if self._shared is None:
            return _random(spec, device, layout)
        if (spec, layout) not in self._shared:
            self._shared[spec, layout] = _random(spec, device, layout)
        return self._shared[spec, layout]


def _random(spec, device, layout):
    if not spec.dtype.is_floating_point:  # the state of a random generator, which dropout would read
        return torch.zeros(spec.shape, device=device, dtype=spec.dtype)
    tensor = torch.randn(spec.shape, device=device, dtype=torch.float32).to(spec.dtype)
    return tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor
