"""Metrics that compare the set of reconstructions with the set of images by the features of a network."""

from pathlib import Path

import torch

from wfvae_toolkit.models.perceptual.features import find_features
from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.utils.distributed import on_main
from wfvae_toolkit.utils.errors import SettingError, is_number

from .metric import UnfitPicture
from .set_statistics import (
    BLOCKS,
    Moments,
    ReferenceStatistics,
    frechet_distance,
    frechet_without_blocks,
    kernel_distance,
    mean_kernel_distance,
    precision_and_recall,
    pseudo_values,
)
from .statistics import block_interval
from .whole_set import WholeSetMetric, WholeSetScore

PUBLISHED = 10_000  # images; published figures have 10,000 to 50,000, and fewer give larger distances
# A name that a reader knows -> features that a number of that name must have.
_NAMES = {'FID': ('inception',), 'KID': ('inception',), 'FDD': ('dinov2',)}


class FeatureMetric(WholeSetMetric):
    """Base of the metrics on features.

    Args:
        features (str): name of a network, see ``models.perceptual.features``.
        weights (str): its file or folder of weights.
        layer (str): of an InceptionV3.
    """

    def __init__(self, features, weights, layer):
        super().__init__()
        self.network = find_features(features, weights, layer)

    def check_name(self, name):
        """Refuse the name of a row that belongs to other features."""
        for known, features in _NAMES.items():
            if known in name.upper() and not self.network.name.startswith(features):
                raise SettingError(f'{name!r}: {known} is the distance of {features[0]} features, and these are of '
                                   f'{self.network.name}; take another name, such as FD_{self.network.name}')

    def features_of(self, batch, field):
        """(B, D) float32 of the batch's 'target' or 'reconstruction', computed once for all metrics."""
        images = getattr(batch, field)
        least = getattr(self.network, 'min_size', 1)
        if min(images.shape[-2:]) < least:
            raise UnfitPicture(f'{images.shape[-1]}x{images.shape[-2]} px: features of {self.network.name} need at '
                               f'least {least}x{least} px')
        key = field, id(self.network)
        if key not in batch.cache:
            batch.cache[key] = self.network(images.clamp(0, 1).mul(255).round_().to(torch.uint8))
        return batch.cache[key]

    def notes(self, count):
        """What a reader must know of a score over so many images."""
        notes = []
        if count <= self.network.width:
            notes.append(f'rank-deficient: no more than {self.network.width} images')
        if count < PUBLISHED:
            notes.append(f'not comparable with published figures: below {PUBLISHED:,} images')
        return tuple(notes)


@METRICS.register_module()
class FrechetDistance(FeatureMetric):
    """Fréchet distance between the features of all reconstructions and of all images: with InceptionV3, rFID.

    Its interval is a jackknife over 10 blocks of images, without repeats: images that are drawn repeatedly would have a
    smaller covariance, and the distance would come out larger. It speaks of the distance at this number of images,
    which is larger than that of an infinite set.

    Args:
        features (str): 'inception' (torch-fidelity), 'inception-pytorch-fid', 'dinov2' (FDD), 'stlpips-vgg' (no
            download), 'stlpips-alex', or the dotted path of a class; see ``models.perceptual.features``.
        weights (str): file of InceptionV3's weights; folder of DINOv2's.
        layer (str): of InceptionV3: '2048' of published numbers, '768', '192' or '64'.
        reference (str): .npz with mean and covariance of the real set, ours or another project's. If there is no such
            file, it is written with how it was made. Another way of making them is an error.
        interval (bool): False keeps sums in place of one vector for each image: 34 MB in place of 8 KB an image.

    Raises:
        MissingLibrary, PerceptualWeightsMissing: see ``models.perceptual.features``.
        SettingError: no such features, or a reference that does not fit them.
    """

    higher_is_better = False

    def __init__(self, features='inception', weights: str | None = None, layer: str | None = None,
                 reference: str | None = None, interval=True):
        super().__init__(features, weights, layer)
        self.interval, self.facts = interval, {}
        self.path = None if reference is None else Path(reference).expanduser()
        self.reference = ReferenceStatistics.read(self.path, self.network.width) if (
            self.path is not None and self.path.is_file()) else None
        for side in ('made',) if self.reference is not None else ('made', 'real'):
            if interval:
                self.add_rows(side)
            else:
                for name, shape in (('count', ()), ('sum', (self.network.width,)),
                                    ('products', (self.network.width, self.network.width))):
                    self.add_sum(f'{side}_{name}', *shape)
        self.description = (
            f'Fréchet distance of {self.network.description}, '
            + (f'to the statistics in {self.path.name}' if self.reference else 'to the images themselves')
            + (f'; interval: jackknife over {BLOCKS} blocks of images' if interval else ''))

    def begin(self, facts):
        """Check that the reference was made as the scored images are; ``facts`` say how."""
        self.facts = {**facts, 'features': self.network.description, 'weights': self.network.fingerprint}
        if self.reference is None:
            return
        stated = self.reference.facts
        other = [f'{name} is {stated[name]!r} there and {value!r} here' for name, value in self.facts.items()
                 if name in stated and name != 'data' and stated[name] != value]
        if other:
            raise SettingError(f'reference={str(self.path)!r} was made in another way: {"; ".join(other)}. Name '
                               'another file, which is then written')

    def update_batch(self, batch):
        for side, field in (('made', 'reconstruction'), ('real', 'target')):
            if side == 'real' and self.reference is not None:
                continue
            rows = self.features_of(batch, field)
            if self.interval:
                getattr(self, side).append(rows)
            else:
                for name, value in zip(('count', 'sum', 'products'), _sums_on_device(rows), strict=True):
                    setattr(self, f'{side}_{name}', getattr(self, f'{side}_{name}') + value)

    def compute(self):
        return on_main(self._compute)

    def _compute(self):
        made = self._moments('made')
        real = self.reference.moments if self.reference is not None else self._moments('real')
        value = frechet_distance(real, made)
        if self.path is not None and self.reference is None:
            ReferenceStatistics(real, self.facts).write(self.path)
        notes = self.notes(made.count)
        if self.reference is not None:
            notes += (f'reference of {real.count or "an unknown number of"} images'
                      + ('' if self.reference.facts else ', which does not say how it was made'),)
        if not self.interval:
            return WholeSetScore(value, notes=notes)
        return with_interval(value, real if self.reference is not None else self.real, self.made, notes)

    def _moments(self, side):
        if self.interval:
            return Moments.of_rows(getattr(self, side))
        return Moments.of_sums(*(getattr(self, f'{side}_{name}') for name in ('count', 'sum', 'products')))


@METRICS.register_module()
class KernelDistance(FeatureMetric):
    """Kernel distance between the features of reconstructions and images: with InceptionV3, KID.

    The mean over random subsets as torch-fidelity draws them, unbiased at any number of images. Its interval is the
    spread over 10 disjoint blocks of images.

    Args:
        features, weights, layer: as of `FrechetDistance`.
        subsets (int): number of random subsets.
        subset_size (int): images in each; all images, if there are fewer.

    Raises:
        As `FrechetDistance`; SettingError: a number below 1, or a size below 2.
    """

    higher_is_better = False

    def __init__(self, features='inception', weights: str | None = None, layer: str | None = None, subsets=100,
                 subset_size=1000):
        if not is_number(subsets, 1, whole=True) or not is_number(subset_size, 2, whole=True):
            raise SettingError(f'subsets={subsets!r}, subset_size={subset_size!r}: whole numbers from 1 and from 2')
        super().__init__(features, weights, layer)
        self.subsets, self.subset_size = subsets, subset_size
        self.add_rows('made')
        self.add_rows('real')
        self.description = (f'kernel distance of {self.network.description}, kernel (x.y / D + 1)^3, mean of {subsets} '
                            f'subsets of {subset_size}; interval: spread over {BLOCKS} blocks of images')

    def update_batch(self, batch):
        self.made.append(self.features_of(batch, 'reconstruction'))
        self.real.append(self.features_of(batch, 'target'))

    def compute(self):
        return on_main(self._compute)

    def _compute(self):
        count = len(self.made)
        if count < 2:
            return WholeSetScore(float('nan'), notes=('needs 2 images or more',))
        size, notes = min(self.subset_size, count), self.notes(count)[-1:] if count < PUBLISHED else ()
        if size < self.subset_size:
            notes += (f'subsets of all {size} images: fewer than {self.subset_size}',)
        # Subsets of all images are all the same.
        value = mean_kernel_distance(self.real, self.made, self.subsets if size < count else 1, size)
        blocks = ()
        if count >= 2 * BLOCKS:
            blocks = tuple(kernel_distance(self.real[block::BLOCKS], self.made[block::BLOCKS])
                           for block in range(BLOCKS))
        return WholeSetScore(value, block_interval(blocks), blocks, notes)


@METRICS.register_module()
class PrecisionRecall(FeatureMetric):
    """Columns ``precision`` and ``recall``: shares of the reconstructions and of the images that the other set covers.

    Args:
        features, weights, layer: as of `FrechetDistance`.
        neighbours (int): the ball of a vector reaches to its k-th neighbour; 3 in published numbers.

    Raises:
        As `FrechetDistance`; SettingError: no whole number from 1.
    """

    higher_is_better = {'precision': True, 'recall': True}

    def __init__(self, features='inception', weights: str | None = None, layer: str | None = None, neighbours=3):
        if not is_number(neighbours, 1, whole=True):
            raise SettingError(f'neighbours={neighbours!r}: a whole number from 1')
        super().__init__(features, weights, layer)
        self.neighbours = neighbours
        self.add_rows('made')
        self.add_rows('real')
        self.description = (f'improved precision and recall of {self.network.description}, balls to the '
                            f'neighbour number {neighbours}')

    def update_batch(self, batch):
        self.made.append(self.features_of(batch, 'reconstruction'))
        self.real.append(self.features_of(batch, 'target'))

    def compute(self):
        return on_main(self._compute)

    def _compute(self):
        count = len(self.made)
        if count <= self.neighbours:
            values, notes = (float('nan'),) * 2, (f'needs more than {self.neighbours} images',)
        else:
            values = precision_and_recall(self.real, self.made, self.neighbours)
            notes = self.notes(count)[-1:] if count < PUBLISHED else ()
        return {name: WholeSetScore(value, notes=notes)
                for name, value in zip(('precision', 'recall'), values, strict=True)}


def with_interval(value, real, made, notes):
    """A Fréchet distance with its jackknife's interval -> WholeSetScore.

    Args:
        value (float): the distance.
        real (Tensor | Moments), made (Tensor): as of `frechet_without_blocks`.
        notes (tuple[str]): to show beside it.
    """
    if len(made) < 2 * BLOCKS:
        return WholeSetScore(value, notes=notes)
    blocks = tuple(pseudo_values(value, frechet_without_blocks(real, made)))
    return WholeSetScore(value, block_interval(blocks), blocks, notes)


def _sums_on_device(rows):
    """(B, D) -> count, sum and outer products, float64 on the device of the rows."""
    rows = rows.double()
    return torch.tensor(float(len(rows)), dtype=torch.float64, device=rows.device), rows.sum(0), rows.T @ rows
