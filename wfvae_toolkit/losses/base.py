"""The base class of the losses, and the values that a loss gets."""

import contextlib
import math
from dataclasses import dataclass, field

import torch
from torch import nn

from wfvae_toolkit.models.posterior import LatentDistribution
from wfvae_toolkit.utils.errors import SettingError, is_number


class HasExtras:
    """A step with ``extras``: the extra fields of its samples.

    ``masks_left_out``: names of masks that are not in ``extras``, because the images were augmented and masks were not.
    """

    masks_left_out = ()

    def extra(self, name):
        """The extra field ``name`` of the samples: a tensor with a row per image, or a list of str.

        A mask is uint8 (B, 1, H, W).

        Raises:
            SettingError: the training dataset gives no field of this name, or it is a mask that does not fit the
                augmented images.
        """
        if name in self.masks_left_out:
            raise SettingError(f'the mask {name!r} does not fit the images that the discriminator sees: '
                               'model.discriminator_augmentation moves them without their masks; set it to None')
        if name not in self.extras:
            raise SettingError(f'samples have no extra field {name!r}, but {sorted(self.extras)}; the training dataset '
                               'must give it, such as ImageManifest by mask_keys')
        return self.extras[name]


@dataclass
class Step(HasExtras):
    """One micro-batch of the autoencoder's turn.

    Every tensor except ``target`` is a leaf. Each row is differentiated with respect to these leaves, and one backward
    pass takes the sum of their gradients through the network. A row must not keep a graph on the step for another row.
    """

    target: torch.Tensor  # (B, 3, H, W) in [-1, 1]
    reconstruction: torch.Tensor  # (B, 3, H, W), about [-1, 1]
    latent_dist: LatentDistribution
    latents: torch.Tensor  # (B, latent_channels, H/f, W/f), input of the decoder
    encoder_bands: tuple[torch.Tensor, ...] = ()  # image first, each (B, 12, h, w)
    decoder_bands: tuple[torch.Tensor, ...] = ()  # latent first
    discriminator: nn.Module | None = None
    # For a row with ``needs_autoencoder``, to encode and decode again; the row's gradient reaches its weights.
    autoencoder: nn.Module | None = None
    seeds: tuple[int, ...] | None = None  # one per image, for all of its random numbers; None: torch's generator
    extras: dict = field(default_factory=dict)  # name -> tensor with a row per image, or list of str; see `extra`

    @property
    def values_per_image(self):
        """C*H*W of the image."""
        return self.target[0].numel()


class Loss(nn.Module):
    """A row of the objective.

    ``forward(step)`` gives a scalar: the sum over an image, averaged over the batch. The training model multiplies it
    by ``weight``, a finite number.

    trains: the network whose objective the row is part of, ``'autoencoder'`` or ``'discriminator'``.
    balance, balance_at, max_ratio: keys of the row in a config, which the training model reads: see
        ``training/balance.py``.
    needs_discriminator: rows that look at ``step.discriminator`` wait until it has started.
    needs_autoencoder: rows that run ``step.autoencoder`` again, such as ``decode`` on changed latents.
    """

    trains = 'autoencoder'
    balance = ()
    balance_at = None
    max_ratio = 1e6
    needs_discriminator = False
    needs_autoencoder = False

    def __init__(self, weight=1.0):
        super().__init__()
        if not is_number(weight) or math.isinf(weight):
            raise SettingError(f'weight={weight!r}: a finite number is needed, such as 1.0')
        self.weight = weight

    def check_autoencoder(self, config, autoencoder):
        """Called once, before training. SettingError: this row cannot work with the autoencoder, or its config."""

    def forward(self, step):
        """Step -> scalar tensor."""
        raise NotImplementedError


def sum_per_image(x):
    """(B, ...) -> scalar: sum over all values, divided by B; summed in float32 or wider."""
    # 1024 px sums 3e6 terms; fp16 overflows at 65504 and bf16 stops counting at 256.
    return (x.sum(dtype=torch.float32) if x.dtype != torch.float64 else x.sum()) / len(x)


@contextlib.contextmanager
def in_full_precision(*tensors):
    """Inside, there is no autocast; gives the tensors in float32, or float64 if they are.

    For differences and filters: bfloat16 has three digits.
    """
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]
