"""Small functions and classes that tests of several folders need."""

import importlib.util
import io
import itertools
import os
from pathlib import Path

import torch

from wfvae_toolkit.checkpoints import TrainedModel, save_training_checkpoint
from wfvae_toolkit.registry import AUTOENCODERS

SMALL = dict(type='WFVAE2Image', latent_channels=3, widths=[8, 12], flow_width=4)


def noise(*shape, seed=0, dtype=torch.float32):
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def load_module(path):
    """A Python file that stands in no package, such as a tool -> a new module."""
    spec = importlib.util.spec_from_file_location(f'file_{Path(path).stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def take(values, count):
    """The first values of an iterable that may have no end."""
    return list(itertools.islice(values, count))


def count_parameters(network):
    """Number of values in all parameters of a module."""
    return sum(parameter.numel() for parameter in network.parameters())


class TouchesAFile:
    """A pickle that runs code where it is loaded: it makes an empty file at ``path``."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mknod, (self.path,)


class TinyFeatures(torch.nn.Module):
    """Six numbers of a uint8 image, for distances of sets: a fixed mixture of its 2x2 mean colours."""

    def forward(self, images):
        coarse = torch.nn.functional.adaptive_avg_pool2d(images.double() / 255, 2).flatten(1)
        return coarse @ noise(12, 6, dtype=torch.float64)


class TinyMaps(torch.nn.Module):
    """Two feature maps of images: themselves, and their 2x2 blocks; batch norm in evaluation mode, frozen."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)

    def maps(self, images, grid=None):
        images = self.norm(images)
        return [images, torch.nn.functional.pixel_unshuffle(images, 2)]


def save_random_inception(path):
    """Write random weights of FID's InceptionV3; returns the path."""
    from wfvae_toolkit.utils.torchvision_shim import import_torch_fidelity

    class Blank(import_torch_fidelity('feature_extractor_inceptionv3').FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            assert state == {}

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    state = Blank('blank', ['2048'], feature_extractor_weights_path=empty).state_dict()
    # Wide enough to keep the scale of the maps through all layers.
    torch.save({name: value * 3 if name.endswith('conv.weight') else value for name, value in state.items()}, path)
    return path


def build_small(seed=0, **settings):
    """A 4x autoencoder of a few thousand parameters; ``settings`` over `SMALL`."""
    torch.manual_seed(seed)
    return AUTOENCODERS.build({**SMALL, **settings})


def trained_small(seed=0, statistics=None, name='run', **settings):
    """The TrainedModel of `build_small`."""
    state = build_small(seed, **settings).state_dict()
    return TrainedModel({**SMALL, **settings}, state, statistics, Path(name), 'native', 'ema')


def save_small_run(folder):
    """Make a run's folder with iter_1.pth: raw weights of seed 0, averaged ones of seed 1; returns the folder."""
    folder.mkdir(exist_ok=True)
    raw = {f'autoencoder.{name}': value for name, value in build_small(0).state_dict().items()}
    averaged = build_small(1).state_dict()
    save_training_checkpoint({'meta': {'iteration': 1}, 'state_dict': raw, 'ema_state_dict': averaged},
                             folder / 'iter_1.pth', SMALL)
    return folder
