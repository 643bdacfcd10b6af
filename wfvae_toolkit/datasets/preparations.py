"""How projects make a square of one size from a whole picture before they score it.

A preparation is a callable: a PIL image in RGB -> pixels (3, H, W), float32 in [-1, 1] or uint8, and whether the
picture had to be enlarged. It has a ``name``, the same for equal preparations, and a ``description`` for a protocol.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..registry import TRANSFORMS
from ..utils.errors import SettingError, UserError, is_number
from ..utils.seeding import seeded
from .bad_files import BadFile
from .images import MAX_PIXELS, BadImage
from .loader import collate_evaluation
from .transforms import describe_pipeline, was_upsampled


class Pipeline:
    """The transforms of a config; they see the seed of the sample.

    Args:
        pipeline (sequence of dict): as of `ImageDataset`.
    """

    name = 'pipeline'

    def __init__(self, pipeline):
        self.transforms = [TRANSFORMS.build(cfg) for cfg in pipeline]
        self.description = describe_pipeline(pipeline)

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return _to_tensor(image), was_upsampled(image)


class _Square:
    """Base of preparations that give ``size`` x ``size`` px in float32; a child gives ``name`` and ``pixels``."""

    title: str

    def __init__(self, size):
        if not is_number(size, 1, whole=True):
            raise SettingError(f'resolution={size!r}: a number of pixels from 1 is needed')
        self.size = size
        self.name = f'{type(self).__name__} {size}'
        self.description = f'{self.title}, to {size} px'

    def __call__(self, image):
        # A line of 1x60000 px would grow to gigapixels.
        longest = self.size * max(image.size) / min(image.size)
        if longest * self.size > MAX_PIXELS:
            raise BadImage(None, f'{image.width}x{image.height} px would become more than {MAX_PIXELS} pixels')
        return (self.pixels(image) - 0.5) / 0.5, min(image.size) < self.size

    def pixels(self, image):
        """PIL image -> (3, size, size) float32 in [0, 1]."""
        raise NotImplementedError


class ADMCrop(_Square):
    """Halve by box filters while the short side is at least twice the size, then resize bicubically; crop the centre.

    `center_crop_arr` of guided-diffusion (Dhariwal and Nichol 2021), which DiT, DC-AE and RAE took over.
    """

    title = 'ADM centre crop: halved by box filters, then bicubic by Pillow'

    def pixels(self, image):
        while min(image.size) >= 2 * self.size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = self.size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = ((side - self.size) // 2 for side in image.size)
        return _to_unit(image.crop((left, top, left + self.size, top + self.size)))


class PillowBilinear(_Square):
    """torchvision's ``Resize`` and ``CenterCrop`` of a PIL image: bilinear with antialiasing, rounded to 8 bits."""

    title = 'bilinear with antialiasing by Pillow (8 bits), centre crop as torchvision'

    def pixels(self, image):
        image = image.resize(_resized(image.size, self.size), Image.Resampling.BILINEAR)
        left, top = _torchvision_corner(image.size, self.size)
        return _to_unit(image.crop((left, top, left + self.size, top + self.size)))


class TensorBilinear(_Square):
    """The same of a float tensor: what is scored has no 8 bits."""

    title = 'bilinear with antialiasing of a float tensor, not rounded, centre crop as torchvision'

    def pixels(self, image):
        width, height = _resized(image.size, self.size)
        pixels = _to_unit(image)
        if (height, width) != pixels.shape[-2:]:
            pixels = F.interpolate(pixels[None], (height, width), mode='bilinear', align_corners=False,
                                   antialias=True)[0]
        left, top = _torchvision_corner((width, height), self.size)
        return pixels[:, top:top + self.size, left:left + self.size]


class PreparingCollate:
    """Samples of whole pictures -> {name of a preparation: `Batch`}; runs in the workers.

    Args:
        preparations (iterable): each name once.
    """

    def __init__(self, preparations):
        self.preparations = {preparation.name: preparation for preparation in preparations}

    def __call__(self, samples):
        return {name: collate_evaluation([prepare(sample, preparation) for sample in samples])
                for name, preparation in self.preparations.items()}


def prepare(sample, preparation):
    """A `Sample` with its whole picture prepared; one whose picture cannot be is bad."""
    if sample.image is None:
        return sample
    image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    try:
        with seeded(sample.seed):
            pixels, enlarged = preparation(image)
    except BadImage as error:
        return replace(sample, image=None, bad=(*sample.bad, BadFile(sample.path, error.reason)))
    except UserError as error:
        raise SettingError(f'{sample.path}: {error}') from error
    return replace(sample, image=pixels, upsampled=enlarged)


def _resized(size, short):
    """(width, height) of a picture whose short side becomes ``short``; torchvision drops the fraction of the other."""
    return tuple(short if side == min(size) else int(short * max(size) / min(size)) for side in size)


def _torchvision_corner(size, edge):
    """Left and top of a centre crop: Python's ``round`` takes a half to the even side."""
    return tuple(int(round((side - edge) / 2.0)) for side in size)


def _to_tensor(image):
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def _to_unit(image):
    """PIL image -> (3, H, W) float32 in [0, 1]."""
    return _to_tensor(image).to(torch.float32).div(255)
