"""Distances between features of a frozen network."""

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.models.perceptual.constant import as_constant
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError, is_number

from .base import Loss


class _PerceptualLoss(Loss):
    """The network's distance, one number per image, times C*H*W: as if every pixel value had this distance.

    The network is a constant: its weights enter no checkpoint, no optimizer and no gradient sync.

    Args:
        crop (int): edge in px of the centre crop that is compared, to save time; None: the whole image.
    """

    def __init__(self, network, weight=1.0, crop=None):
        super().__init__(weight)
        if crop is not None and not is_number(crop, network.min_size, whole=True):
            raise SettingError(f'{type(self).__name__}: crop={crop!r}; None, or a whole number of px of at least '
                               f'{network.min_size}, which the network needs')
        self.network = as_constant(network)
        self.crop = crop

    def forward(self, step):
        distances = self.network(self._centre(step.reconstruction), self._centre(step.target))
        return distances.float().mean() * step.values_per_image

    def _centre(self, images):
        height, width = (min(size, self.crop or size) for size in images.shape[-2:])
        top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
        return images[..., top:top + height, left:left + width]


@LOSSES.register_module()
class LPIPSLoss(_PerceptualLoss):
    """LPIPS 0.1 (Zhang et al. 2018, arXiv 1801.03924), not spatial.

    Args:
        net (str): ``'vgg'`` or ``'alex'``.
        trunk_weights (str): torchvision's weights of that network; None looks in torch hub's folder.
        crop (int): centre crop in px that is compared; None: all of the image.
    """

    def __init__(self, net='vgg', trunk_weights: str | None = None, weight=1.0, crop: int | None = None):
        from wfvae_toolkit.models.perceptual import LPIPS

        super().__init__(LPIPS(net, trunk_weights), weight, crop)


@LOSSES.register_module()
class STLPIPSLoss(_PerceptualLoss):
    """Shift-tolerant LPIPS (Ghildyal and Liu 2022, arXiv 2207.13686); its weights come with a package.

    Args:
        net (str): ``'alex'`` (2.5 M parameters) or ``'vgg'`` (14.7 M).
        crop (int): centre crop in px that is compared; None: all of the image.
    """

    def __init__(self, net='alex', weight=1.0, crop: int | None = None):
        from wfvae_toolkit.models.perceptual import STLPIPS

        super().__init__(STLPIPS(net), weight, crop)


@LOSSES.register_module()
class FeatureLoss(_PerceptualLoss):
    """1 - cosine between a frozen network's features of both pictures, mean over its positions, times C*H*W.

    One network for the features, such as DINOv2's patch tokens of the picture at 224 px.

    Args:
        features (str): a name of ``models/perceptual/features.py``: ``'dinov2'``, ``'inception'``, ``'stlpips-vgg'``.
            Or the dotted path of a class: float32 (B, 3, H, W) in [0, 255] -> (B, D) or (B, D, positions).
        weights (str): its file or folder; None where a package brings it.
        crop (int): centre crop in px that is compared; None: all of the image.

    Raises:
        MissingLibrary, PerceptualWeightsMissing, SettingError: see `load_features`.
    """

    def __init__(self, features='stlpips-vgg', weights: str | None = None, weight=1.0, crop: int | None = None):
        from wfvae_toolkit.models.perceptual.features import load_features

        network = load_features(features, weights)
        super().__init__(_FeatureDistance(network), weight, crop)
        self.source = network.source  # a resumed run notices other weights


class _FeatureDistance(nn.Module):
    """Two (B, 3, H, W) in [-1, 1] -> (B,) 1 - cosine, mean over positions."""

    def __init__(self, features):
        super().__init__()
        self.features = features
        self.min_size = getattr(features, 'min_size', 1)

    def forward(self, reconstruction, target):
        with torch.no_grad():
            theirs = self._of(target)
        return 1 - F.cosine_similarity(self._of(reconstruction), theirs, dim=1).flatten(1).mean(1)

    def _of(self, images):
        features = self.features.positions((images.float() + 1) * 127.5).float()
        return features if features.ndim > 2 else features[..., None]
