"""Distances between two sets of feature vectors: Fréchet's, the kernel distance, precision and recall. All in float64.

Rows are images of one order; block b of B holds the rows b, b + B, b + 2B and so on, so that two models scored on the
same images have the same images in a block.
"""

import json
from dataclasses import dataclass, field

import numpy as np
import torch

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_write

BLOCKS = 10  # of an interval
CHUNK = 1000  # rows at a time: 50,000 distances in float32 of each take 200 MB


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a set of vectors.

    Attributes:
        count (int): number of vectors.
        mean (Tensor): (D,).
        factor (Tensor): (D, r) whose product with its transpose is the covariance, divided by count - 1.
    """

    count: int
    mean: torch.Tensor
    factor: torch.Tensor

    @property
    def covariance(self):
        return self.factor @ self.factor.T

    @staticmethod
    def of_rows(rows):
        """(n, D) of any type -> Moments."""
        if len(rows) > rows.shape[1]:
            return Moments.of_sums(*sums_of(rows))
        rows = rows.double()
        mean = rows.mean(0)
        # Fewer rows than features: they are a factor themselves, and no rounding fills up the rank.
        return Moments(len(rows), mean, (rows - mean).T / max(len(rows) - 1, 1)**0.5)

    @staticmethod
    def of_sums(count, total, products):
        """Number of rows, their sum (D,), and the sum of their outer products (D, D), all float64 -> Moments."""
        count = int(count)
        mean = total / count
        return Moments.of_covariance(count, mean, (products - count * torch.outer(mean, mean)) / max(count - 1, 1))

    @staticmethod
    def of_covariance(count, mean, covariance):
        """Of a mean (D,) and a covariance (D, D)."""
        values, vectors = torch.linalg.eigh(covariance)
        return Moments(count, mean, vectors * values.clamp(min=0).sqrt())


def sums_of(rows):
    """(n, D) -> number of rows, their sum (D,) and the sum of their outer products (D, D), float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    products = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for chunk in rows.split(CHUNK):
        chunk = chunk.double()
        total += chunk.sum(0)
        products += chunk.T @ chunk
    return torch.tensor(float(len(rows)), dtype=torch.float64), total, products


def frechet_distance(one, other):
    """Squared Fréchet distance of the Gaussians of two Moments (Dowson and Landau 1982), a float.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The trace of the root is the sum of the singular values of F1^T F2
    with C = F F^T, which needs no root of a product that rounding has made indefinite.
    """
    shift = one.mean - other.mean
    spread = one.factor.square().sum() + other.factor.square().sum()
    return float(shift @ shift + spread - 2 * torch.linalg.svdvals(one.factor.T @ other.factor).sum())


def frechet_without_blocks(real, made, blocks=BLOCKS):
    """Fréchet distances without the images of one block each, a list of ``blocks`` floats.

    Args:
        real (Tensor | Moments): (n, D), or the Moments of a set that no block belongs to.
        made (Tensor): (n, D).
    """
    distances = []
    for block in range(blocks):
        kept = torch.ones(len(made), dtype=torch.bool)
        kept[block::blocks] = False
        others = real if isinstance(real, Moments) else Moments.of_rows(real[kept])
        distances.append(frechet_distance(others, Moments.of_rows(made[kept])))
    return distances


def pseudo_values(value, without):
    """A score, and the scores without each block -> the jackknife's pseudo-values (Quenouille 1956), a list."""
    return [len(without) * value - (len(without) - 1) * one for one in without]


def kernel_distance(real, made):
    """Unbiased squared MMD of two (n, D) under the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, KID), a float."""
    real, made = real.double(), made.double()
    count = len(real)
    of_real, of_made, between = (((x @ y.T) / real.shape[1] + 1)**3
                                 for x, y in ((real, real), (made, made), (real, made)))
    within = of_real.sum() - of_real.trace() + of_made.sum() - of_made.trace()
    return float(within / (count * (count - 1)) - 2 * between.sum() / count**2)


def mean_kernel_distance(real, made, subsets, size, seed=2020):
    """Mean kernel distance of random subsets of ``size`` rows; torch-fidelity's, which draws the made ones first."""
    generator = np.random.RandomState(seed)  # noqa: NPY002, torch-fidelity's own, for the same subsets
    found = []
    for _ in range(subsets):
        of_made, of_real = (torch.from_numpy(generator.choice(len(side), size, replace=False)) for side in (made, real))
        found.append(kernel_distance(real[of_real], made[of_made]))
    return sum(found) / len(found)


def precision_and_recall(real, made, neighbours=3):
    """Improved precision and recall (Kynkaanniemi et al. 2019) of two (n, D), two floats.

    Precision: share of the made rows that lie in the ball of a real row, whose radius is the distance to its k-th
    neighbour. Recall: the same with the sides exchanged.
    """
    return tuple(_covered(balls, points, neighbours) for balls, points in ((real, made), (made, real)))


def _covered(balls, points, neighbours):
    """Share of ``points`` that lie in a ball around a row of ``balls``."""
    # The nearest of all is the row itself.
    radii = torch.cat([torch.cdist(chunk, balls).kthvalue(neighbours + 1).values for chunk in balls.split(CHUNK)])
    inside = [(torch.cdist(chunk, balls) <= radii).any(1) for chunk in points.split(CHUNK)]
    return torch.cat(inside).double().mean().item()


@dataclass(frozen=True)
class ReferenceStatistics:
    """Mean and covariance of a set, kept in a file.

    Attributes:
        moments (Moments): of its features; a count of 0 is not known.
        facts (dict[str, str]): how they were made; {} where the file does not say.
    """

    moments: Moments
    facts: dict = field(default_factory=dict)

    def write(self, path):
        """Write an .npz with ``mu`` and ``sigma``, which other projects read, ``count`` and ``facts``."""
        with atomic_write(path) as file:
            np.savez(file, mu=self.moments.mean.numpy(), sigma=self.moments.covariance.numpy(),
                     count=self.moments.count, facts=json.dumps(self.facts))

    @staticmethod
    def read(path, width):
        """Of a file, ours or another project's with ``mu`` and ``sigma``.

        Raises:
            SettingError: it holds no such statistics, or those of vectors of another length.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                mean, covariance = (torch.from_numpy(np.asarray(file[name], np.float64)) for name in ('mu', 'sigma'))
                count = int(file['count']) if 'count' in file else 0
                facts = json.loads(str(file['facts'])) if 'facts' in file else {}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise SettingError(f'reference={str(path)!r}: no statistics with mu and sigma ({error}); remove the file, '
                               'and it is written anew') from error
        if mean.shape != (width,) or covariance.shape != (width, width):
            raise SettingError(f'reference={str(path)!r}: of vectors of {mean.numel()} numbers; these features have '
                               f'{width}')
        return ReferenceStatistics(Moments.of_covariance(count, mean, covariance), facts)
