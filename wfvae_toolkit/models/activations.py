"""The largest values inside an autoencoder, which show whether float16 can hold them."""

import torch

from wfvae_toolkit.utils.finite import FLOAT16_MAX

# Other pictures may give larger values than the measured ones, and so may sums inside a layer.
FLOAT16_MARGIN = 4.0
HALVES = ('encoder', 'decoder')


class ActivationMonitor:
    """Inside ``with``, forward hooks record the largest absolute input and output of every module of both halves.

    The network itself is unchanged; the device is synchronised only by ``largest``.

    Args:
        autoencoder (nn.Module): with ``encoder`` and ``decoder``, in float32.
    """

    def __init__(self, autoencoder):
        self.autoencoder = autoencoder
        self._seen = {half: {} for half in HALVES}  # half -> what -> 0-dim tensor
        self._handles = []

    def __enter__(self):
        for half in HALVES:
            for name, module in getattr(self.autoencoder, half).named_modules():
                self._handles.append(module.register_forward_hook(self._hook(half, f'{half}.{name}'.rstrip('.'))))
        return self

    def __exit__(self, *error):
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, half, name):
        def note(module, inputs, output):
            for what, values in ((f'input of {name}', inputs), (name, output)):
                for value in _float_tensors(values):
                    low, high = value.detach().aminmax()
                    largest = torch.maximum(-low, high)
                    before = self._seen[half].get(what, largest)
                    self._seen[half][what] = torch.maximum(before, largest)
        return note

    def largest(self):
        """{'encoder': {'value': float, 'module': str}, 'decoder': ...} of all that ran inside ``with``."""
        found = {}
        for half, seen in self._seen.items():
            values = torch.stack(list(seen.values())).tolist() if seen else [0.0]
            largest = max(values)
            found[half] = {'value': largest, 'module': [*seen, half][values.index(largest)]}
        return found


def float16_is_safe(activations):
    """Whether float16 holds activations with a margin of 4; None if unknown.

    Unknown: they were not measured, or only made-up pictures (``images`` 0) were. Those can only prove that float16 is
    too small.
    """
    if activations is None:
        return None
    largest = max(activations[half]['value'] for half in HALVES)
    if largest > FLOAT16_MAX:
        return False
    return True if activations['images'] and largest * FLOAT16_MARGIN <= FLOAT16_MAX else None


def describe_activations(activations):
    """One line of text: the largest value of each half, and its module."""
    if activations is None:
        return 'largest activations: not measured'
    values = ', '.join(f'{half} {activations[half]["value"]:.4g} ({activations[half]["module"]})' for half in HALVES)
    number = activations['images']
    return f'largest activations in float32: {values}, over {number or "made-up"} pictures'


def safe_dtypes(activations):
    """[(dtype, 'yes', 'no' or 'not measured', reason)] for float32, bfloat16 and float16."""
    known = float16_is_safe(activations)
    limit = f'float16 ends at {FLOAT16_MAX:.0f}, and values must stay {FLOAT16_MARGIN:g} times below it'
    return [('float32', 'yes', 'it was trained and is evaluated in it'),
            ('bfloat16', 'yes', 'it has the range of float32, and rounds to 3 decimal digits'),
            ('float16', {True: 'yes', False: 'no', None: 'not measured' if not (activations or {}).get('images') else
                         'unsure'}[known], f'{describe_activations(activations)}; {limit}')]


def _float_tensors(values):
    if isinstance(values, torch.Tensor):
        return [values] if values.is_floating_point() and values.numel() else []
    if isinstance(values, (tuple, list)):
        return [tensor for value in values for tensor in _float_tensors(value)]
    return []
