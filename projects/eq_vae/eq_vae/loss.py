"""Decoded latents that were scaled and turned, against the image scaled and turned."""

import torch

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.seeding import mix_seed

from .transforms import draw_transform


@LOSSES.register_module()
class EquivarianceLoss(Loss):
    """C*H*W times mean |D(T(z)) - T(x)|, of each image that draws a transform; 0 of the others.

    After EQ-VAE (Kouzelis et al. 2025, arXiv 2502.09509). T scales each side by a factor in [``smallest``,
    ``largest``], to a whole number of latent positions, and turns by quarters. The mean, not the sum, over the smaller
    picture: all transforms weigh the same. T is a function of the sample's seed. Without turns, with ``isotropic`` and
    ``largest=0.5`` it is the scale equivariance of Skorokhodov et al. 2025, arXiv 2502.14831.

    Args:
        weight (float): factor in the objective.
        probability (float): share of the images that draw a transform.
        smallest (float): lowest scale.
        isotropic (bool): one scale for both sides.
        largest (float): highest scale.
        turns (bool): whether T turns.

    Raises:
        SettingError: a share or scale out of range, or a T that changes nothing.
    """

    needs_autoencoder = True

    def __init__(self, weight=1.0, probability=0.5, smallest=0.25, isotropic=False, largest=1.0, turns=True):
        super().__init__(weight)
        if not 0.0 < probability <= 1.0 or not 0.0 < smallest <= 1.0:
            raise SettingError(f'EquivarianceLoss: probability={probability}, smallest={smallest}: both above 0, up '
                               'to 1')
        if not smallest <= largest <= 1.0:
            raise SettingError(f'EquivarianceLoss: largest={largest}: from smallest={smallest} to 1')
        if smallest == 1.0 and not turns:
            raise SettingError('EquivarianceLoss: smallest=1 and turns=False change nothing; set one of them')
        self.probability = probability
        self.draw = dict(smallest=smallest, isotropic=isotropic, largest=largest, turns=turns)

    def forward(self, step):
        total = 0.0 * step.latents.sum()  # a batch may draw nothing
        for latents, targets in self.pairs(step):
            error = (step.autoencoder.decode(latents).sample - targets).abs()
            total = total + error.mean((1, 2, 3)).sum()
        return step.values_per_image * total / len(step.target)

    def pairs(self, step):
        """(T(z), T(x)) of the images that draw a transform, those of one size in one batch."""
        factor = step.target.shape[-1] // step.latents.shape[-1]
        groups = {}
        for number, transform in enumerate(self._draw(step)):
            if transform is None:
                continue
            size = transform.latent_size(*step.latents.shape[2:])
            latents = transform(step.latents[number:number + 1], size)
            target = transform(step.target[number:number + 1], [factor * side for side in size])
            groups.setdefault(latents.shape, []).append((latents, target))
        return [tuple(map(torch.cat, zip(*group, strict=True))) for group in groups.values()]

    def _draw(self, step):
        seeds = torch.randint(2**32, (len(step.target),)).tolist() if step.seeds is None else step.seeds
        for seed in seeds:
            generator = torch.Generator().manual_seed(mix_seed('loss', seed))
            yield draw_transform(generator, self.probability, **self.draw)
