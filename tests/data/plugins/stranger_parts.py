"""One part of every kind that another package can add, none of them registered."""

from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from PIL import ImageOps
from torch import nn

from wfvae_toolkit.datasets import ImageFolder
from wfvae_toolkit.evaluation import Metric
from wfvae_toolkit.losses import Loss
from wfvae_toolkit.models.autoencoders import DecoderOutput, EncoderOutput
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.models.wavelets import Wavelet
from wfvae_toolkit.registry import MID_BLOCKS, NORM_LAYERS, WAVELETS


class StrangeWavelet(Wavelet):
    """PyTorch's order of the four pixels of a block: channel-major, where ours is band-major."""

    def analyze(self, image):
        return F.pixel_unshuffle(image, 2)

    def synthesize(self, bands):
        return F.pixel_shuffle(bands, 2)


class StrangeNorm(nn.Module):
    """x / (1 + |x|) times a gain."""

    def __init__(self, channels, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), gain))

    def forward(self, x):
        return F.softsign(x) * self.weight


class StrangeMidBlock(nn.Module):
    """A 1x1 convolution of the normalised input beside it."""

    def __init__(self, channels, norm):
        super().__init__()
        self.norm = NORM_LAYERS.build(norm, channels=channels)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x + self.conv(self.norm(x))


class StrangeLoss(Loss):
    """Largest absolute error of each image."""

    def forward(self, step):
        return (step.target - step.reconstruction).flatten(1).abs().amax(1).mean()


class StrangeDiscriminator(nn.Module):
    """(B, 3, H, W) -> (B, 1, H/4, W/4)."""

    def __init__(self, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.SiLU(), nn.Conv2d(width, 1, 1))

    def forward(self, images):
        return self.layers(images)


class StrangeDataset(ImageFolder):
    """A folder read from its end."""

    def path(self, index):
        return super().path(len(self) - 1 - index)


class StrangeTransform:
    """The negative."""

    def __call__(self, image):
        return ImageOps.invert(image)


class StrangeMetric(Metric):
    """Share of the pixels whose error is below a level of 255."""

    higher_is_better = True
    description = 'share of pixel values within one level'

    def measure(self, batch):
        return ((batch.target - batch.reconstruction).abs() < 1 / 255).flatten(1).float().mean(1)


class StrangeHook(Hook):
    """Writes the number of the last update."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        (Path(runner.work_dir) / 'strange.txt').write_text(str(batch_idx + 1))


class StrangeAutoencoder(nn.Module):
    """Two convolutions around a mid block, on one level of a wavelet."""

    downsample_factor = 2

    def __init__(self, wavelet, norm, mid_block, latent_channels=2):
        super().__init__()
        self.latent_channels = latent_channels
        self.wavelet = WAVELETS.build(wavelet)
        self.encoder = nn.Sequential(MID_BLOCKS.build(mid_block, channels=12, norm=norm),
                                     nn.Conv2d(12, 2 * latent_channels, 3, padding=1))
        self.decoder = nn.Conv2d(latent_channels, 12, 3, padding=1)

    @property
    def last_layer(self):
        return self.decoder.weight

    def encode(self, x):
        return EncoderOutput(DiagonalGaussian.from_moments(self.encoder(self.wavelet.analyze(x))))

    def decode(self, z):
        return DecoderOutput(self.wavelet.synthesize(self.decoder(z)))
