"""Augmentation of images and reconstructions before the discriminator sees them."""

import torch

from wfvae_toolkit.registry import AUGMENTATIONS
from wfvae_toolkit.utils.device import to_device
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.seeding import drawn_seeds, mix_seed


class Augmentation:
    """Base of the augmentations: a subclass gives ``draw`` and ``apply``.

    The turns of both networks draw from the image's seed. An image and its reconstruction get the same augmentation, so
    losses may compare them. Batch and rank do not change an image's augmentation.

    ``moves_pixels``: masks no longer fit the augmented images, so rows of the discriminator do not get them.
    """

    moves_pixels = True

    def drawn(self, images, seeds=None):
        """A function (B, 3, H, W) -> (B, 3, H, W) for these images.

        Args:
            images (Tensor): (B, 3, H, W) in [-1, 1].
            seeds (list[int]): one per image; None: use torch's generator.
        """
        if seeds is None:
            seeds = drawn_seeds(len(images))
        numbers = torch.stack([self.draw(torch.Generator().manual_seed(mix_seed('augmentation', seed)))
                               for seed in seeds])
        numbers = to_device(numbers, images.device)
        return lambda pictures: self.apply(pictures, numbers)

    def draw(self, generator):
        """(n,) random numbers of one image, on the CPU."""
        raise NotImplementedError

    def apply(self, images, numbers):
        """(B, 3, H, W) and (B, n) -> (B, 3, H, W), differentiable in the images."""
        raise NotImplementedError


@AUGMENTATIONS.register_module()
class DiffAugment(Augmentation):
    """Differentiable augmentation, with the paper's settings and ranges (Zhao et al. 2020, arXiv 2006.10738).

    color: brightness by [-0.5, 0.5], then saturation by [0, 2], then contrast by [0.5, 1.5]. translation: by up to an
    eighth of each side, zeros outside. cutout: a square of zeros of half of each side.

    Args:
        policy (tuple[str]): of 'color', 'translation', 'cutout', applied in this order.

    Raises:
        SettingError: another policy, or none.
    """

    KINDS = ('color', 'translation', 'cutout')

    def __init__(self, policy=('color', 'translation', 'cutout')):
        policy = (policy,) if isinstance(policy, str) else tuple(policy)
        if not policy or set(policy) - set(self.KINDS):
            raise SettingError(f'DiffAugment: policy={policy!r}: use some of {", ".join(self.KINDS)}')
        self.policy = policy
        self.moves_pixels = policy != ('color',)

    def draw(self, generator):
        return torch.rand(7, generator=generator)

    def apply(self, images, numbers):
        if 'color' in self.policy:
            images = _color(images, numbers[:, :3])
        if 'translation' in self.policy:
            images = _translation(images, numbers[:, 3:5])
        if 'cutout' in self.policy:
            images = _cutout(images, numbers[:, 5:7])
        return images


class AugmentedDiscriminator:
    """A discriminator that applies one drawn augmentation to its images; call it like the network itself."""

    def __init__(self, discriminator, augment):
        self.discriminator, self.augment = discriminator, augment

    def __call__(self, images):
        return self.discriminator(self.augment(images))

    def features(self, images):
        return self.discriminator.features(self.augment(images))


def _color(images, numbers):
    brightness, saturation, contrast = (numbers.to(images).view(-1, 3, 1, 1, 1)).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def _translation(images, numbers):
    height, width = images.shape[-2:]
    down, right = (_whole(numbers[:, i], 2 * most + 1) - most
                   for i, most in enumerate((_eighth(height), _eighth(width))))
    rows = torch.arange(height, device=images.device) - down[:, None]
    columns = torch.arange(width, device=images.device) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    moved = images[torch.arange(len(images), device=images.device)[:, None, None], :, rows[:, :, None],
                   columns[:, None]]
    return moved.permute(0, 3, 1, 2) * inside


def _cutout(images, numbers):
    height, width = images.shape[-2:]
    masks = []
    for i, edge in enumerate((height, width)):
        half = int(edge * 0.5 + 0.5)
        centre = _whole(numbers[:, i], edge + (1 - half % 2))
        first = centre - half // 2
        places = torch.arange(edge, device=images.device)
        masks.append((places >= first[:, None]) & (places < first[:, None] + half))
    return images * ~(masks[0][:, None, :, None] & masks[1][:, None, None])


def _eighth(edge):
    return int(edge / 8 + 0.5)


def _whole(numbers, count):
    """Uniform [0, 1) -> whole numbers from 0 to ``count`` - 1."""
    return (numbers * count).long().clamp(max=count - 1)
