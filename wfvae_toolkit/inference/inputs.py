"""Pictures in every form that users hold them -> one batch."""

import math
import os

import numpy as np
import torch
from PIL import Image

from wfvae_toolkit.datasets.images import BadImage, load_rgb
from wfvae_toolkit.utils.errors import MissingFile, SettingError
from wfvae_toolkit.utils.pixels import from_bytes

ACCEPTED = ('accepted are a path, a PIL image, arrays (H, W, 3), (B, H, W, 3) or grey (H, W), tensors (3, H, W) or '
            '(B, 3, H, W), the last two uint8 or float in [-1, 1], and lists of these')


def to_batch(images, device='cpu'):
    """Pictures -> float32 (B, 3, H, W) in [-1, 1] on ``device``.

    Args:
        images: a path (read by the rules of ``wfvae_toolkit.datasets.images``), a PIL image (likewise), an array
            (H, W, 3), (B, H, W, 3) or grey (H, W), a tensor (3, H, W) or (B, 3, H, W), or a list of any of these, all
            of one size. uint8 means 0..255, float [-1, 1].
        device (str | torch.device): where the batch lies; uint8 crosses to it as such.

    Raises:
        SettingError: another shape, type or range, or sizes that differ; the message says what is accepted.
        MissingFile: a path that is not there.
    """
    items = images if isinstance(images, (list, tuple)) else [images]
    if not items:
        raise SettingError(f'an empty list holds no pictures; {ACCEPTED}')
    batches = [_to_tensor(item).to(device) for item in items]
    sizes = sorted({f'{batch.shape[-1]}x{batch.shape[-2]}' for batch in batches})
    if len(sizes) > 1:
        raise SettingError(f'pictures of different sizes in one list, {", ".join(sizes)} px; give them one by one')
    return torch.cat([_to_signed(batch) for batch in batches])


def picture_names(images, count):
    """Names for errors, one for each of the ``count`` pictures of `to_batch`: its path, else 'picture 2 of 3'."""
    items = images if isinstance(images, (list, tuple)) else [images]
    paths = [str(item) if isinstance(item, (str, os.PathLike)) else None for item in items]
    if len(items) != count:
        paths = [None] * count
    return [path or f'picture {number} of {count}' for number, path in enumerate(paths, 1)]


def _to_tensor(item):
    """One picture or batch -> (B, 3, H, W), uint8 or float."""
    if isinstance(item, (str, os.PathLike)):
        item = np.asarray(_decoded(item))
    elif isinstance(item, Image.Image):
        item = np.asarray(_decoded(item, max_pixels=math.inf))
    if isinstance(item, np.ndarray):
        item = _from_array(item)
    elif not isinstance(item, torch.Tensor):
        raise SettingError(f'a {type(item).__name__} is not a picture; {ACCEPTED}')
    elif item.ndim not in (3, 4) or item.shape[-3] != 3:
        raise SettingError(f'a tensor of shape {tuple(item.shape)}; {ACCEPTED}')
    item = item.detach() if item.ndim == 4 else item.detach()[None]
    if not item.numel():
        raise SettingError(f'pictures of shape {tuple(item.shape)} hold no pixels; {ACCEPTED}')
    if item.dtype != torch.uint8 and not item.is_floating_point():
        raise SettingError(f'pictures of {item.dtype}; {ACCEPTED}')
    return item


def _decoded(item, **options):
    try:
        return load_rgb(item, **options)
    except BadImage as error:
        known = MissingFile if error.reason == 'missing' else SettingError
        raise known(f'{error}; {ACCEPTED}' if known is SettingError else f'no picture {error.path}') from None


def _from_array(array):
    """(H, W), (H, W, 3) or (B, H, W, 3) -> tensor (B, 3, H, W) or (3, H, W)."""
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise SettingError(f'an array of shape {array.shape}; {ACCEPTED}')
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise SettingError(f'an array of {array.dtype}; {ACCEPTED}')
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
    # A copy: torch takes neither read-only memory (PIL's) without a warning nor negative strides.
    return torch.from_numpy(np.array(np.moveaxis(array, -1, -3), order='C'))


def _to_signed(batch):
    """uint8 or float in [-1, 1] -> float32 in [-1, 1], as in training."""
    if batch.dtype == torch.uint8:
        return from_bytes(batch)
    batch = batch.to(torch.float32)
    low, high = (value.item() for value in batch.aminmax())
    if not (low >= -1 and high <= 1):  # so that NaN fails too
        raise SettingError(f'float pictures with values {low:.6g}..{high:.6g}; -1 is black and 1 white ({ACCEPTED})')
    return batch
