"""Fréchet distance of what is decoded between latents (Xu et al. 2026, arXiv 2603.05630)."""

import torch
import torch.nn.functional as F

from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError, is_number

from .set_distances import FeatureMetric, with_interval
from .set_statistics import BLOCKS, Moments, frechet_distance
from .whole_set import WholeSetScore

INTERPOLATIONS = ('slerp', 'linear')
CHUNK = 512  # latents at a time whose distances to all others are held


def find_neighbours(latents, candidates, by_angle, generator=None):
    """Each row's neighbour among the other rows, int64 (n,) on the CPU.

    Of the ``candidates`` nearest rows one is drawn, with probability softmax(-d) of their mean squared differences d,
    as the paper's script does; with one candidate it is the nearest.

    Args:
        latents (Tensor): (n, D) float32, on any device.
        candidates (int): at most n - 1.
        by_angle (bool): nearest by cosine; else by squared distance.
        generator (torch.Generator): of the draws.
    """
    keys = F.normalize(latents) if by_angle else latents
    squares = keys.square().sum(1)
    found = []
    for start in range(0, len(latents), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = squares[rows, None] + squares - 2 * keys[rows] @ keys.T
        own = torch.arange(start, start + len(distances), device=latents.device)
        distances[own - start, own] = torch.inf
        nearest = distances.topk(candidates, largest=False).indices
        differences = (latents[rows, None] - latents[nearest]).square().mean(2)
        drawn = torch.multinomial(F.softmax(-differences, 1).cpu(), 1, generator=generator)
        found.append(nearest.cpu().gather(1, drawn)[:, 0])
    return torch.cat(found)


def interpolate(one, other, alpha, spherical):
    """Latents (B, ...) between two: ``alpha`` of the way on the line, or on the arc between their directions."""
    if not spherical:
        return torch.lerp(one, other, alpha)
    flat = [latents.flatten(1) for latents in (one, other)]
    cosine = F.cosine_similarity(*flat).clamp(-1, 1)
    angle = cosine.acos()
    sine = angle.sin()
    weights = torch.stack([((1 - alpha) * angle).sin(), (alpha * angle).sin()]) / sine
    # On one line there is no arc.
    straight = torch.tensor([1 - alpha, alpha]).to(weights)[:, None]
    weights = torch.where(sine < 1e-6, straight, weights)
    return sum(weight.view(-1, *[1] * (one.dim() - 1)) * latents
               for weight, latents in zip(weights, (one, other), strict=True))


@METRICS.register_module()
class InterpolatedFrechetDistance(FeatureMetric):
    """Fréchet distance between the images and what is decoded between latents: with InceptionV3, iFID.

    The latents of each image (the posterior's mean) are interpolated with those of a neighbour and decoded. The
    distance predicts how well diffusion on such latents generates, which rFID does not (arXiv 2603.05630, where the
    correlation with the FID of generated images is about 0.85). Lower is better.

    The defaults are those of the paper's script, with two differences: neighbours are searched among the scored images
    themselves, where the paper searches ImageNet's training set, and pictures are rounded to 8 bits. So its published
    numbers are others; compare models on the same images.

    Args:
        features, weights, layer: as of `FrechetDistance`.
        interpolation (str): 'slerp', neighbours by cosine; 'linear', neighbours by squared distance.
        candidates (int): number of nearest latents of which the neighbour is drawn; 1: the nearest.
        alpha (float): share of the neighbour, 0 to 1. With 0 it is the distance of the reconstructions.
        batch_size (int): latents that are decoded at once.

    Raises:
        As `FrechetDistance`; SettingError: another interpolation, or a number out of range.
    """

    higher_is_better = False

    def __init__(self, features='inception', weights: str | None = None, layer: str | None = None,
                 interpolation='slerp', candidates=10, alpha=0.5, batch_size=16):
        if interpolation not in INTERPOLATIONS:
            raise SettingError(f'interpolation={interpolation!r}: use one of {", ".join(INTERPOLATIONS)}')
        if not (is_number(candidates, 1, whole=True) and is_number(alpha, 0, 1)
                and is_number(batch_size, 1, whole=True)):
            raise SettingError(f'candidates={candidates!r}, alpha={alpha!r}, batch_size={batch_size!r}: whole numbers '
                               'from 1, and a share from 0 to 1')
        super().__init__(features, weights, layer)
        self.spherical, self.candidates, self.alpha = interpolation == 'slerp', candidates, alpha
        self.batch_size, self._size = batch_size, None
        for name in ('latents', 'sizes', 'real'):
            self.add_rows(name)
        drawn = 'the nearest' if candidates == 1 else f'one of the {candidates} nearest, drawn by softmax(-mse),'
        self.description = (
            f'Fréchet distance of {self.network.description}: images against what is decoded between the mean of their '
            f'latents and {drawn} of the other scored images; {interpolation}, alpha {alpha:g}; interval: jackknife '
            f'over {BLOCKS} blocks of images')

    def begin(self, facts):
        """Forget the size of the latents."""
        self._size = None

    def update_batch(self, batch):
        latents = batch.need('latents')
        self._size = self._size or latents.shape[1:]
        if latents.shape[1:] != self._size:
            raise SettingError(f'latents of {tuple(self._size)} and {tuple(latents.shape[1:])}: this metric needs '
                               'images of one size; --resolution or --crop makes them')
        self.latents.append(latents.float())
        self.sizes.append(torch.tensor([batch.target.shape[-2:]] * len(latents)))
        self.real.append(self.features_of(batch, 'target'))

    def compute(self):
        count = len(self.latents)
        if count < 2:
            return WholeSetScore(float('nan'), notes=('needs 2 images or more',))
        candidates = min(self.candidates, count - 1)
        device = 'cpu' if self.autoencoder is None else next(self.autoencoder.parameters()).device
        neighbours = find_neighbours(self.latents.flatten(1).to(device), candidates, self.spherical)
        notes = self.notes(count)
        if candidates < self.candidates:
            notes += (f'all {candidates} other images are candidates: fewer than {self.candidates}',)
        made = self._decode_all(neighbours)

        def score():
            distance = frechet_distance(Moments.of_rows(self.real), Moments.of_rows(made))
            return with_interval(distance, self.real, made, notes)
        return distributed.on_main(score)

    @torch.no_grad()
    def _decode_all(self, neighbours):
        """Features (n, D) of the decoded interpolations; ranks with an autoencoder share the work."""
        able = distributed.gather(self.autoencoder is not None)
        ranks = [rank for rank, has_one in enumerate(able) if has_one]
        count, mine = len(neighbours), None
        if distributed.rank() in ranks:
            own = torch.arange(ranks.index(distributed.rank()), count, len(ranks))
            rows = [self._decode(part, neighbours[part]) for part in own.split(self.batch_size)]
            mine = torch.cat(rows) if rows else None
        order = torch.cat([torch.arange(place, count, len(ranks)) for place in range(len(ranks))])
        return distributed.concatenate_over_ranks(mine)[order.argsort()]

    def _decode(self, rows, others):
        device = next(self.autoencoder.parameters()).device
        self.network.to(device)
        latents = interpolate(self.latents[rows].to(device), self.latents[others].to(device), self.alpha,
                              self.spherical)
        with torch.autocast(device.type, enabled=False):
            pictures = self.autoencoder.decode(latents).sample
        height, width = self.sizes[rows[0]].tolist()
        levels = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[..., :height, :width]
        return self.network(levels).cpu()
