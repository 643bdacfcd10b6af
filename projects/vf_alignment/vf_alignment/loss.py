"""Projected latents against the features of a frozen network, position by position and pair by pair."""

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.models.perceptual.features import load_maps
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError, is_number


@LOSSES.register_module()
class VFAlignmentLoss(Loss):
    """C*H*W times (L_mcos + L_mdms) of VA-VAE (Yao et al. 2025, arXiv 2501.01423).

    The latents z go through a linear map W, which trains with the autoencoder, to the width of the frozen network's
    features f. L_mcos and L_mdms are `cosine_gap` and `matrix_gap` of Wz and f. The frozen network enters no checkpoint
    and no optimizer, and a resumed run notices other weights; W is in the run's checkpoints and in no export.

    The paper balances the row: ``weight=0.1, balance=('pixel', 'perceptual')`` and ``balance_at``, the name of the
    encoder's last layer.

    Args:
        weight (float): factor in the objective; of the ratio of gradients if the row has a ``balance``.
        features (str): network with feature maps, see ``wfvae_toolkit.models.perceptual.features``.
        weights (str): its file or folder of weights.
        layer (int): which of its maps; -1: the last one.
        cosine_margin (float): m1, from 0 and below 1.
        matrix_margin (float): m2, from 0 and below 2.

    Raises:
        MissingLibrary, PerceptualWeightsMissing: see ``load_maps``.
        SettingError: a margin out of range, or a layer that the network does not have.
    """

    def __init__(self, weight=0.1, features='stlpips-alex', weights: str | None = None, layer=-1, cosine_margin=0.5,
                 matrix_margin=0.25):
        super().__init__(weight)
        for name, margin, limit in (('cosine_margin', cosine_margin, 1), ('matrix_margin', matrix_margin, 2)):
            if not is_number(margin, 0) or margin >= limit:
                raise SettingError(f'{name}={margin!r}: a number from 0 and below {limit} is needed')
        network = load_maps(features, weights)
        count = len(network.map_widths)
        if not is_number(layer, -count, whole=True) or layer >= count:
            raise SettingError(f'layer={layer!r}: {features} has maps 0 to {count - 1}; -1 is the last one')
        self.width, self.layer = network.map_widths[layer], layer
        self.cosine_margin, self.matrix_margin = cosine_margin, matrix_margin
        self.features, self.source = network, network.source
        self.projection = None

    def check_autoencoder(self, config, autoencoder):
        """Make W for this autoencoder's latents."""
        self.projection = nn.Conv2d(autoencoder.latent_channels, self.width, 1, bias=False)

    def forward(self, step):
        projected = self.projection(step.latents)
        features = frozen_features(self.features, step.target, projected.shape[-2:], self.layer)
        gap = cosine_gap(projected, features, self.cosine_margin) + matrix_gap(projected, features, self.matrix_margin)
        return gap * step.values_per_image


@torch.no_grad()
def frozen_features(network, images, grid, layer):
    """(B, 3, H, W) in [-1, 1] -> (B, D, *grid) float32: a map of the network, one vector for each latent position."""
    found = network.maps(images, grid)[layer].float()
    if found.shape[-2:] != tuple(grid):
        found = F.interpolate(found, size=tuple(grid), mode='bilinear', antialias=True)
    return found


def cosine_gap(projected, features, margin):
    """L_mcos: mean over positions of relu(1 - margin - cos(z', f)); both (B, D, h, w) -> scalar."""
    return F.relu(1.0 - margin - F.cosine_similarity(projected.float(), features.float(), dim=1)).mean()


def matrix_gap(projected, features, margin):
    """L_mdms: mean over pairs of positions of an image of relu(|cos(z'_i, z'_j) - cos(f_i, f_j)| - margin).

    Both (B, D, h, w) -> scalar. Two matrices of (h*w)^2 numbers an image are held.
    """
    difference = _similarities(projected) - _similarities(features)
    return F.relu(difference.abs() - margin).mean()


def _similarities(x):
    """(B, D, h, w) -> (B, h*w, h*w) cosines, in float32 also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        unit = F.normalize(x.float().flatten(2), dim=1)
        return unit.transpose(1, 2) @ unit
