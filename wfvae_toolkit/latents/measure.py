"""Measure mean, std and KL of every latent channel over many pictures, as ``tools/measure_latents.py`` does."""

from dataclasses import dataclass

import torch

from wfvae_toolkit.datasets import BlockSampler, PictureCounts, count_images, describe_pipeline, load_batches
from wfvae_toolkit.models.activations import HALVES, ActivationMonitor
from wfvae_toolkit.models.latent_statistics import LatentStatistics, active_channels
from wfvae_toolkit.models.sizes import fit_to_factor
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import as_float64
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.finite import check_finite
from wfvae_toolkit.utils.pixels import from_bytes
from wfvae_toolkit.utils.progress import progress

_ACTIVE = {True: 'yes', False: 'no', None: 'none'}
ACTIVATION_IMAGES = 32  # decoding all would take twice the time of the measurement itself


class LatentSums:
    """Running sums over posteriors, one per channel, in float64. Sums of parts merge to the sums of the whole.

    The update of mean and squares is that of Chan et al. 1979, "Updating formulae and a pairwise algorithm".

    Args:
        channels (int): latent channels.
    """

    def __init__(self, channels):
        self.positions, self.least_kl = 0, 0.0
        self.mean, self.squares, self.variances, self.kl = torch.zeros(4, channels, dtype=torch.float64)

    def add(self, posterior):
        """Add a LatentDistribution over (B, C, h, w)."""
        dimensions = (0, 2, 3)
        means = as_float64(posterior.mean)
        part = LatentSums(means.shape[1])
        part.positions = means.numel() // means.shape[1]
        mean = means.mean(dimensions, keepdim=True)
        part.mean = mean.flatten().cpu()
        part.squares = (means - mean).square().sum(dimensions).cpu()
        part.variances = as_float64(posterior.var).sum(dimensions).cpu()
        part.least_kl = posterior.least_kl
        part.kl = None if posterior.least_kl is None else as_float64(posterior.kl()).sum(dimensions).cpu()
        self.merge(part)

    def merge(self, other):
        """Add what another LatentSums holds."""
        positions = self.positions + other.positions
        if not positions:
            return
        step = other.mean - self.mean
        self.mean = self.mean + step * (other.positions / positions)
        self.squares = self.squares + other.squares + step.square() * (self.positions * other.positions / positions)
        self.variances = self.variances + other.variances
        self.kl = None if self.kl is None or other.kl is None else self.kl + other.kl
        self.positions = positions
        if other.positions:
            self.least_kl = other.least_kl


@dataclass(frozen=True)
class LatentMeasurement:
    """Statistics of each latent channel over all positions of all pictures.

    Attributes:
        mean, std (tuple[float]): of samples of the posterior, computed and not drawn: Var = Var[mean] + E[variance].
            Diffusion models train on samples. A channel that carries nothing has means near 0 and a variance near 1;
            dividing it by the std of its means would amplify noise.
        std_of_means (tuple[float]): of the posterior's mean: without the term E[variance].
        kl (tuple[float] | None): from the standard normal, in nats per position; None: the posterior has none.
        active (tuple[bool] | None): see `active_channels`; None without a KL.
        global_mean, global_std (float): of the values of all channels together.
        positions (int): latent positions measured.
        images (int): number of pictures measured.
        bad (list[BadFile]): pictures that could not be read.
    """

    mean: tuple
    std: tuple
    std_of_means: tuple
    kl: tuple | None
    active: tuple
    global_mean: float
    global_std: float
    positions: int
    images: int
    bad: list

    @classmethod
    def of(cls, sums, images, bad):
        """LatentSums -> LatentMeasurement."""
        variance_of_means = sums.squares / sums.positions
        variance = variance_of_means + sums.variances / sums.positions
        kl = None if sums.kl is None else sums.kl / sums.positions
        # Every channel has the same number of positions, so the variance of all values is the
        # mean of the variances plus the variance of the means.
        global_variance = variance.mean() + sums.mean.var(correction=0)
        return cls(
            mean=tuple(sums.mean.tolist()), std=tuple(variance.sqrt().tolist()),
            std_of_means=tuple(variance_of_means.sqrt().tolist()),
            kl=None if kl is None else tuple(kl.tolist()),
            active=None if kl is None else tuple(active_channels(kl, sums.least_kl).tolist()),
            global_mean=float(sums.mean.mean()), global_std=float(global_variance.sqrt()),
            positions=sums.positions, images=images, bad=bad)

    @property
    def statistics(self):
        """LatentStatistics for the model."""
        return LatentStatistics(self.mean, self.std)

    def record(self, **protocol):
        """What a model file keeps beside mean and std: a dict of plain data. ``protocol`` is added to it."""
        return {
            'std_of': 'samples of the posterior', 'std_of_means': list(self.std_of_means),
            'kl_nats_per_position': None if self.kl is None else list(self.kl),
            'active': None if self.active is None else list(self.active),
            'global_mean': self.global_mean, 'global_std': self.global_std,
            'images': self.images, 'positions': self.positions, **protocol}

    def table(self):
        """Plain text: one line per channel, then all channels together."""
        lines = [f'{"channel":>7} {"mean":>11} {"std":>11} {"std of means":>12} {"KL (nats)":>11}  active']
        kl = ['none'] * len(self.mean) if self.kl is None else [f'{value:.5f}' for value in self.kl]
        active = self.active or [None] * len(self.mean)
        rows = zip(self.mean, self.std, self.std_of_means, kl, active, strict=True)
        lines += [f'{number:>7} {mean:>11.5f} {std:>11.5f} {of_means:>12.5f} {kl:>11}  {_ACTIVE[active]}'
                  for number, (mean, std, of_means, kl, active) in enumerate(rows)]
        return '\n'.join([
            *lines, '',
            f'{len(self.mean)} channels, no KL' if self.kl is None else
            f'{sum(self.active)} of {len(self.active)} channels active, {sum(self.kl):.4f} nats per position',
            f'all channels as one: shift {self.global_mean:.6f}, scale {1 / self.global_std:.6f}',
            f'{self.images} images, {self.positions} positions, {len(self.bad)} images could not be read'])


@torch.inference_mode()
def measure_latents(reconstructor, dataset, max_images=None, batch_size=8, num_workers=0):
    """Measure the posterior over the pictures of a dataset. Every rank must call it; all get the same result.

    The right and bottom edges of a picture are cut so that the model's factor divides both sides.

    Args:
        reconstructor (Reconstructor): the model.
        dataset (ImageDataset): of `open_images`.
        max_images (int): only the first ones.
        batch_size (int): largest number of pictures in a batch; a batch holds pictures of one size.
        num_workers (int): processes that read pictures.

    Returns:
        LatentMeasurement

    Raises:
        SettingError: no picture could be read, or one is smaller than the factor.
        NotFinite: a picture's latents hold NaN or infinity.
    """
    autoencoder = reconstructor.autoencoder
    batches = BlockSampler(count_images(dataset, max_images), batch_size, distributed.rank(), distributed.world_size())
    sums, images, bad = LatentSums(autoencoder.latent_channels), 0, []
    counts = PictureCounts()
    loader = load_batches(dataset, batches, num_workers)
    for batch in progress(loader, 'batches measured', len(batches)):
        bad += batch.bad
        counts.add(batch)
        for group in batch.groups():
            sums.add(encode_bytes(reconstructor, _cut(group, autoencoder.downsample_factor), group.paths))
            images += len(group)
    counts.say()
    parts = distributed.gather((sums, images, bad))
    total = LatentSums(autoencoder.latent_channels)
    for part, _, _ in parts:
        total.merge(part)
    bad = sorted(file for *_, files in parts for file in files)
    if not total.positions:
        raise SettingError(f'none of the pictures could be read; the first: {bad[0].path}: {bad[0].reason}')
    return LatentMeasurement.of(total, sum(count for _, count, _ in parts), bad)


@torch.inference_mode()
def measure_activations(reconstructor, dataset, max_images=None, num_workers=0):
    """Largest activations of encoder and decoder over the first 32 pictures; every rank must call it.

    Args:
        reconstructor (Reconstructor): the model, in float32: another dtype may not hold the values.
        dataset, max_images, num_workers: as of `measure_latents`.

    Returns:
        dict: of `ActivationMonitor.largest`, and ``images``, how many were seen; the same on every rank. None: none of
            the first 32 could be read.

    Raises:
        NotFinite: the picture's latents or image hold NaN or infinity.
    """
    count = min(count_images(dataset, max_images), ACTIVATION_IMAGES)
    autoencoder, images = reconstructor.autoencoder, 0
    batches = BlockSampler(count, 1, distributed.rank(), distributed.world_size())
    with ActivationMonitor(autoencoder) as monitor:
        for batch in load_batches(dataset, batches, num_workers):
            for group in batch.groups():
                posterior = encode_bytes(reconstructor, _cut(group, autoencoder.downsample_factor), group.paths)
                image = autoencoder.decode(posterior.mode()).sample
                check_finite({'decoder': image}, reconstructor.dtype, group.paths)
                images += len(group)
    parts = distributed.gather((monitor.largest(), images))
    if not any(number for _, number in parts):
        return None
    return {**{half: max((found[half] for found, _ in parts), key=lambda entry: entry['value']) for half in HALVES},
            'images': sum(number for _, number in parts)}


@torch.inference_mode()
def encode_bytes(reconstructor, images, names):
    """uint8 (B, 3, H, W) -> LatentDistribution over raw latents (B, C, H/f, W/f), in float32.

    Raises:
        NotFinite: NaN or infinity in them; the message takes the picture from ``names``.
    """
    images = from_bytes(images.to(reconstructor.device))
    posterior = reconstructor.autoencoder.encode(images.to(reconstructor.dtype)).latent_dist
    check_finite({'encoder': posterior.tensors}, reconstructor.dtype, names)
    return posterior


def describe_pictures(pipeline, factor, converts_to_srgb=False):
    """A line for the record: `measure_latents`'s cut included."""
    return f'{describe_pipeline(pipeline, converts_to_srgb)}, cut to multiples of {factor} px'


def _cut(group, factor):
    try:
        return fit_to_factor(group.images, factor, 'cut')
    except SettingError as error:
        raise SettingError(f'{group.paths[0]}: {error}; --resolution enlarges small pictures') from None
