"""Images whose sides the downsampling factor of an autoencoder does not divide."""

import torch.nn.functional as F

from wfvae_toolkit.utils.errors import SettingError


def fit_to_factor(images, factor, policy):
    """(B, C, H, W) -> the same with sides that are positive multiples of ``factor``.

    Args:
        images (Tensor): of any dtype.
        factor (int): downsampling factor of the autoencoder.
        policy (str): what happens to other sides.

            - ``'pad'``: fill them up by reflection, on the right and at the bottom. A side that is not larger than its
              padding repeats its edge. The caller cuts the padding off the result.
            - ``'cut'``: drop the pixels beyond the last multiple, on the right and at the bottom.
            - ``'refuse'``: raise.

    Raises:
        SettingError: ``'refuse'`` and a side that is no multiple, or ``'cut'`` and a side smaller than ``factor``.
    """
    height, width = images.shape[-2:]
    if policy == 'pad':
        return _pad(images, factor)
    if policy == 'cut':
        if height < factor or width < factor:
            raise SettingError(f'{width}x{height} px, the model needs {factor} or more on each side')
        return images[..., :height // factor * factor, :width // factor * factor]
    if policy != 'refuse':
        raise ValueError(f"policy={policy!r}: 'pad', 'cut' or 'refuse'")
    if height % factor or width % factor or not height or not width:
        nearest = [max(factor, round(size / factor) * factor) for size in (width, height)]
        raise SettingError(f'{width}x{height} px: use multiples of {factor}, such as {nearest[0]}x{nearest[1]}')
    return images


def size_text(size):
    """(height, width) as text: '64' of a square, else width before height, '96x64'."""
    height, width = size
    return f'{height}' if height == width else f'{width}x{height}'


def _pad(images, factor):
    height, width = images.shape[-2:]
    for size, padding in ((width, (0, -width % factor, 0, 0)), (height, (0, 0, 0, -height % factor))):
        if any(padding):
            images = F.pad(images, padding, mode='reflect' if max(padding) < size else 'replicate')
    return images
