"""Check for NaN and infinity in results, once per batch and outside the networks."""

import torch

from .errors import NotFinite

FLOAT16_MAX = 65504.0
_WHAT_WORKS = {
    torch.float16: f'float16 ends at {FLOAT16_MAX:.0f}: use bfloat16 or float32',
    torch.bfloat16: 'try float32; if it fails there too, the weights are damaged or too large',
}
_IN_FULL_RANGE = ('no wider dtype would help: the weights are damaged or too large, so take another checkpoint of the '
                  'training')


def all_finite(*tensors):
    """Whether float tensors on one device hold neither NaN nor infinity; synchronises the device once for all."""
    # aminmax returns NaN if a value is NaN, and allocates no mask of the tensor's size.
    ends = [end.float() for tensor in tensors if tensor.numel() for end in tensor.aminmax()]
    return not ends or bool(torch.stack(ends).isfinite().all())


def check_finite(stages, dtype, names=()):
    """Raise NotFinite unless every stage's result of a batch is finite.

    Args:
        stages (dict[str, Tensor | tuple[Tensor]]): name of a stage, such as 'encoder', -> its results (B, ...), in the
            order of computation.
        dtype (torch.dtype): of the network's computation.
        names (sequence[str]): of the B pictures; empty: the message gives their number.

    Raises:
        NotFinite: the message names picture, stage and dtype, and says what would work.
    """
    stages = {name: values if isinstance(values, tuple) else (values,) for name, values in stages.items()}
    if all_finite(*(value for values in stages.values() for value in values)):
        return
    stage, values = next((name, values) for name, values in stages.items() if not all_finite(*values))
    rows = range(len(values[0]))
    bad = [row for row in rows if not all_finite(*(value[row] for value in values))]
    name = names[bad[0]] if names else f'picture {bad[0] + 1} of {len(rows)}'
    more = f' (and {len(bad) - 1} more of its batch)' if len(bad) > 1 else ''
    raise NotFinite(f'{name}{more}: the {stage} gave NaN or infinity in {str(dtype).removeprefix("torch.")}; '
                    f'{_WHAT_WORKS.get(dtype, _IN_FULL_RANGE)}')
