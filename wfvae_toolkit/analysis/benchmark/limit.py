"""The limit of a piece of work: its convolutions, matrix products and fused attentions alone, in their best layout."""

import time

import torch

from ..kernels import TensorSpec

_LAYOUTS = (torch.contiguous_format, torch.channels_last)


class Limit:
    """The matrix arithmetic of recorded work, to be run on random numbers without all else.

    Each distinct kernel gets the faster of both layouts, found by ``tries`` timed calls; calling the limit then
    runs every recorded kernel as often as the work did.

    Args:
        recorded (KernelRecorder): of the work.
        device (torch.device): where it runs.
        tries (int): timed calls a layout.
    """

    def __init__(self, recorded, device, tries=5):
        self._calls = [(self._fastest(kernel, device, tries), count) for kernel, count in recorded.kernels.items()]

    def __call__(self):
        for call, count in self._calls:
            for _ in range(count):
                call()

    def _fastest(self, kernel, device, tries):
        calls = [_prepare(kernel, device, layout) for layout in _LAYOUTS]
        return min(calls, key=lambda call: _seconds(call, device, tries))


def _prepare(kernel, device, layout):
    arguments = _materialize(kernel.arguments, device, layout)
    options = dict(_materialize(kernel.options, device, layout))
    return lambda: kernel.op(*arguments, **options)


def _materialize(value, device, layout):
    if isinstance(value, TensorSpec):
        tensor = torch.randn(value.shape, device=device, dtype=torch.float32).to(value.dtype)
        return tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor
    if isinstance(value, tuple):
        return tuple(_materialize(item, device, layout) for item in value)
    return value


def _seconds(call, device, tries):
    call()
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
