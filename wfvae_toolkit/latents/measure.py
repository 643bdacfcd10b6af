"""Mean, std, KL and activity of a model's latents over many pictures: what ``tools/measure_latents.py`` runs."""

from dataclasses import dataclass

import torch
from tqdm import tqdm

from wfvae_toolkit.datasets import BlockSampler, PictureCounts, count_images, describe_pipeline, load_batches
from wfvae_toolkit.models.activations import HALVES, ActivationMonitor
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.models.sizes import fit_to_factor
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.finite import check_finite
from wfvae_toolkit.utils.pixels import from_bytes

ACTIVATION_IMAGES = 32  # decoding all would take twice the time of the measurement itself
ACTIVE_VARIANCE = 0.01  # of the posterior's mean over the data: Burda et al. 2016, arXiv 1509.00519


class LatentMoments:
    """Streaming per-channel sums of posteriors in float64; parts merge to the whole (Chan et al. 1979).

    Args:
        channels (int): of the latent.
    """

    def __init__(self, channels):
        self.positions = 0
        self.mean, self.squares, self.variances, self.kl = torch.zeros(4, channels, dtype=torch.float64)

    def add(self, posterior):
        """Take in a DiagonalGaussian over (B, C, h, w)."""
        dimensions = (0, 2, 3)
        means = posterior.mean.double()
        part = LatentMoments(means.shape[1])
        part.positions = means.numel() // means.shape[1]
        mean = means.mean(dimensions, keepdim=True)
        part.mean = mean.flatten().cpu()
        part.squares = (means - mean).square().sum(dimensions).cpu()
        part.variances = posterior.var.double().sum(dimensions).cpu()
        part.kl = posterior.kl().double().sum(dimensions).cpu()
        self.merge(part)

    def merge(self, other):
        """Take in what another LatentMoments holds."""
        positions = self.positions + other.positions
        if not positions:
            return
        step = other.mean - self.mean
        self.mean = self.mean + step * (other.positions / positions)
        self.squares = self.squares + other.squares + step.square() * (self.positions * other.positions / positions)
        self.variances = self.variances + other.variances
        self.kl = self.kl + other.kl
        self.positions = positions


@dataclass(frozen=True)
class LatentMeasurement:
    """Per-channel numbers of latents, over all positions of all pictures.

    Attributes:
        mean, std (tuple[float]): of samples of the posterior, exactly: Var = Var[mean] + E[variance]. Diffusion
            models train on samples; and a channel that carries nothing has means near 0 under a variance near 1,
            which the std of the means alone would blow up to noise.
        std_of_means (tuple[float]): without the second term.
        kl (tuple[float]): from the standard normal, in nats a position.
        active (tuple[bool]): whether the variance of the means is above 0.01.
        global_mean, global_std (float): of all channels as one: a single shift, and 1 / a single scale.
        positions (int): latent positions measured.
        images (int): pictures measured.
        bad (list[BadFile]): pictures that could not be read.
    """

    mean: tuple
    std: tuple
    std_of_means: tuple
    kl: tuple
    active: tuple
    global_mean: float
    global_std: float
    positions: int
    images: int
    bad: list

    @classmethod
    def of(cls, moments, images, bad):
        """LatentMoments -> LatentMeasurement."""
        variance_of_means = moments.squares / moments.positions
        variance = variance_of_means + moments.variances / moments.positions
        # Channels have as many positions each: the variance of all is the mean variance and that of the means.
        global_variance = variance.mean() + moments.mean.var(correction=0)
        return cls(
            mean=tuple(moments.mean.tolist()), std=tuple(variance.sqrt().tolist()),
            std_of_means=tuple(variance_of_means.sqrt().tolist()),
            kl=tuple((moments.kl / moments.positions).tolist()),
            active=tuple((variance_of_means > ACTIVE_VARIANCE).tolist()),
            global_mean=float(moments.mean.mean()), global_std=float(global_variance.sqrt()),
            positions=moments.positions, images=images, bad=bad)

    @property
    def statistics(self):
        """LatentStatistics for the model."""
        return LatentStatistics(self.mean, self.std)

    def record(self, **protocol):
        """What is kept in the model beside mean and std: plain data."""
        return {
            'std_of': 'samples of the posterior', 'std_of_means': list(self.std_of_means),
            'kl_nats_per_position': list(self.kl), 'active': list(self.active),
            'global_mean': self.global_mean, 'global_std': self.global_std,
            'images': self.images, 'positions': self.positions, **protocol}

    def table(self):
        """Plain text: a line a channel, then all of them as one."""
        lines = [f'{"channel":>7} {"mean":>11} {"std":>11} {"std of means":>12} {"KL (nats)":>11}  active']
        rows = zip(self.mean, self.std, self.std_of_means, self.kl, self.active, strict=True)
        lines += [f'{number:>7} {mean:>11.5f} {std:>11.5f} {of_means:>12.5f} {kl:>11.5f}  {"yes" if active else "no"}'
                  for number, (mean, std, of_means, kl, active) in enumerate(rows)]
        return '\n'.join([
            *lines, '',
            f'{sum(self.active)} of {len(self.active)} channels active, {sum(self.kl):.4f} nats a position',
            f'all channels as one: shift {self.global_mean:.6f}, scale {1 / self.global_std:.6f}',
            f'{self.images} images, {self.positions} positions, {len(self.bad)} images could not be read'])


@torch.inference_mode()
def measure_latents(reconstructor, dataset, max_images=None, batch_size=8, num_workers=0):
    """Measure the posterior over the pictures of a dataset; every rank must call it and has the same result.

    Pictures are cut, right and below, to multiples of the model's factor.

    Args:
        reconstructor (Reconstructor): the model.
        dataset (ImageDataset): of `open_images`.
        max_images (int): only the first ones.
        batch_size (int): pictures that the network sees at once, where they have one size.
        num_workers (int): processes that read.

    Returns:
        LatentMeasurement

    Raises:
        SettingError: no picture could be read, or one is smaller than the factor.
        NotFinite: a picture's latents hold NaN or infinity.
    """
    autoencoder = reconstructor.autoencoder
    batches = BlockSampler(count_images(dataset, max_images), batch_size, distributed.rank(), distributed.world_size())
    moments, images, bad = LatentMoments(autoencoder.latent_channels), 0, []
    counts = PictureCounts()
    loader = load_batches(dataset, batches, num_workers)
    # None: only on a terminal.
    for batch in tqdm(loader, 'batches measured', len(batches), disable=None if distributed.is_main() else True):
        bad += batch.bad
        counts.add(batch)
        for group in batch.groups():
            moments.add(encode_bytes(reconstructor, _cut(group, autoencoder.downsample_factor), group.paths))
            images += len(group)
    counts.say()
    parts = distributed.gather((moments, images, bad))
    total = LatentMoments(autoencoder.latent_channels)
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
        reconstructor (Reconstructor): the model, in float32: another dtype could not hold what is looked for.
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
    """uint8 (B, 3, H, W) -> DiagonalGaussian over raw latents (B, C, H/f, W/f), in float32.

    Raises:
        NotFinite: NaN or infinity in them; the message takes the picture from ``names``.
    """
    images = from_bytes(images.to(reconstructor.device))
    posterior = reconstructor.autoencoder.encode(images.to(reconstructor.dtype)).latent_dist
    check_finite({'encoder': (posterior.mean, posterior.logvar)}, reconstructor.dtype, names)
    return posterior


def describe_pictures(pipeline, factor, converts_to_srgb=False):
    """A line for the record: `measure_latents`'s cut included."""
    return f'{describe_pipeline(pipeline, converts_to_srgb)}, cut to multiples of {factor} px'


def _cut(group, factor):
    try:
        return fit_to_factor(group.images, factor, 'cut')
    except SettingError as error:
        raise SettingError(f'{group.paths[0]}: {error}; --resolution enlarges small pictures') from None
