"""Extra fields of a sample, such as a mask or a caption: read beside the picture, batched, and handed to the losses.

| `ImageDataset.extras` gives | `Batch.extras` of training holds |
| --- | --- |
| `Mask` | uint8 (B, 1, H, W), cropped, flipped and resized with its picture |
| number | (B,) |
| tensor, array or list of numbers | (B, ...); all of one shape |
| str | list of B |

In evaluation, where sizes differ, each field is a list of B.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..utils.errors import SettingError
from .images import MAX_PIXELS, BadImage, load_upright

KINDS = 'a Mask, a number, a string, a tensor, an array or a list of numbers'


@dataclass(frozen=True)
class Mask:
    """One value of 8 bits per pixel of the upright picture, such as a weight or the number of a class.

    A grey file keeps its values and a palette file its indices; 1 bit becomes 0 and 255. A mask that cannot be read,
    has colours, or differs in size from its picture makes the sample a bad file.
    """

    source: str | Path | bytes | Image.Image  # as of `load_rgb`


def read_extras(fields, max_pixels=MAX_PIXELS):
    """Fields of `ImageDataset.extras` -> (masks, the others): two dicts, of PIL images in mode L and of other values.

    Raises:
        BadImage: a mask cannot be used.
        SettingError: a value is none of these kinds.
    """
    masks, others = {}, {}
    for name, value in fields.items():
        if isinstance(value, Mask):
            masks[name] = _read_mask(name, value.source, max_pixels)
        else:
            others[name] = _checked(name, value)
    return masks, others


def check_masks(masks, size):
    """BadImage unless every mask has the ``size``, (width, height) in px, of its picture."""
    for name, mask in masks.items():
        if mask.size != size:
            raise BadImage(None, f'{name}: a mask of {mask.width}x{mask.height} px for a picture of '
                                 f'{size[0]}x{size[1]} px')


def batch_extras(samples):
    """``extras`` of each sample, a list of dicts -> name -> list of values; SettingError where names differ."""
    names = samples[0].extras.keys() if samples else ()
    for sample in samples:
        if sample.extras.keys() != names:
            raise SettingError(f'{samples[0].path} has the extra fields {sorted(names)} and {sample.path} '
                               f'{sorted(sample.extras)}: let every source of a mixture give the same ones')
    return {name: [sample.extras[name] for sample in samples] for name in names}


def stack_extras(extras, paths):
    """name -> list of values becomes name -> tensor with a row per picture; strings stay a list.

    Raises:
        SettingError: shapes or kinds differ; the message names two pictures of ``paths``.
    """
    return {name: _stacked(name, values, paths) for name, values in extras.items()}


def check_keys(mask_keys, extra_keys, reserved=()):
    """Two tuples; SettingError unless they are lists of different keys, none of which is ``reserved`` for a path."""
    for name, keys in (('mask_keys', mask_keys), ('extra_keys', extra_keys)):
        if not (isinstance(keys, (list, tuple)) and all(isinstance(key, str) for key in keys)):
            raise SettingError(f"{name}={keys!r}: use a list of keys, such as ['{name.split('_')[0]}']")
    keys = (*mask_keys, *extra_keys)
    if len({*keys, *reserved}) < len(keys) + len(reserved):
        others = f', and none of {", ".join(reserved)}, which hold the path of a picture' if reserved else ''
        raise SettingError(f'mask_keys={mask_keys!r}, extra_keys={extra_keys!r}: name each key once{others}')
    return tuple(mask_keys), tuple(extra_keys)


def map_tensors(function, extras):
    """A copy of ``extras`` with ``function`` applied to each tensor, those in lists included."""
    def mapped(value):
        if isinstance(value, torch.Tensor):
            return function(value)
        return [mapped(item) for item in value] if isinstance(value, list) else value
    return {name: mapped(value) for name, value in extras.items()}


def is_mask(value, images):
    """Whether a field of a training batch is a mask of ``images``, (B, C, H, W): uint8 (B, 1, H, W)."""
    return (isinstance(value, torch.Tensor) and value.dtype == torch.uint8
            and value.shape == (len(images), 1, *images.shape[-2:]))


def _read_mask(name, source, max_pixels):
    try:
        image = load_upright(source, max_pixels)
    except BadImage as error:
        raise BadImage(error.path, f'{name}: {error.reason}') from error
    if image.mode == '1':
        return image.convert('L')
    if image.mode not in ('L', 'P'):
        raise BadImage(None, f'{name}: a mask of mode {image.mode}; one channel of 8 bits is needed')
    return Image.fromarray(np.array(image))  # without the palette, which resizing by nearest pixel does not need


def _checked(name, value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (str, int, float, torch.Tensor)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, (int, float)) for item in value):
        return torch.tensor(value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    raise SettingError(f'extra field {name!r}: {value!r:.80} is {type(value).__name__}; use {KINDS}')


def _stacked(name, values, paths):
    def kind(value):
        if isinstance(value, torch.Tensor):
            return f'{value.dtype} of shape {tuple(value.shape)}'
        return 'a string' if isinstance(value, str) else 'a number'

    for path, value in zip(paths, values, strict=True):
        if kind(value) != kind(values[0]):
            raise SettingError(f'extra field {name!r}: {paths[0]} has {kind(values[0])} and {path} {kind(value)}; a '
                               'batch needs one kind and shape')
    if isinstance(values[0], str):
        return values
    return torch.stack(values) if isinstance(values[0], torch.Tensor) else torch.tensor(values)
