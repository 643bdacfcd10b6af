"""Frozen networks that turn an image into one vector, for distances between sets of images, or into feature maps.

| name | network | vector | maps |
| --- | --- | --- | --- |
| ``inception`` | FID's InceptionV3 with torch-fidelity's resize to 299 px (that of TensorFlow 1) | 2048 | |
| ``inception-pytorch-fid`` | the same network with pytorch-fid's resize | 2048 | |
| ``dinov2`` | DINOv2 in the format of transformers: its class token | 1024 for ViT-L | one per block |
| ``stlpips-vgg``, ``stlpips-alex`` | trunk of ST-LPIPS, no download: mean of its last map | 512, 256 | 5 stages |

A dotted path names a class of one's own: built with ``weights`` if they are given, uint8 (B, 3, H, W) -> (B, D). For
feature maps it has a method ``maps`` as that of `FeatureNetwork`.
"""

import functools
import hashlib
import importlib.util
import io
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.utils.errors import SettingError, import_extra
from wfvae_toolkit.utils.torchvision_shim import import_torch_fidelity, import_transformers

from .constant import as_constant
from .stlpips import STLPIPS
from .weights import PerceptualWeightsMissing, find_weights, read_weights

INCEPTION_URL = ('https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/'
                 'weights-inception-2015-12-05-6726825d.pth')
_INCEPTION_EDGE = 299
# Layer -> the child of the network that it ends with; vectors of the earlier ones are means over positions.
_INCEPTION_ENDS = {'64': 'MaxPool_1', '192': 'MaxPool_2', '768': 'Mixed_6e', '2048': 'AvgPool'}
_DINO_EDGE = 224
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureNetwork(nn.Module):
    """uint8 images (B, 3, H, W) -> (B, ``width``) float32. Frozen and in evaluation mode.

    ``positions`` gives the same network's features before they become one vector, (B, ``width``, ...), with a gradient
    for float images in [0, 255].

    Attributes:
        name (str): as a config has it.
        width (int): length of the vector.
        description (str): for a protocol.
        fingerprint (str): tells files of weights apart; '' where a package brings them.
        map_widths (list[int]): channels of each feature map; empty where there are none.
    """

    fingerprint = ''
    map_widths = ()

    @property
    def source(self):
        """Name and fingerprint, by which a resumed run notices other weights."""
        return f'{self.name} ({self.fingerprint})' if self.fingerprint else self.name

    def maps(self, images, grid=None):
        """Feature maps, the first layer's first, differentiable in the images.

        Args:
            images (Tensor): (B, 3, H, W) in [-1, 1].
            grid (tuple[int, int]): positions (h, w) that a transformer gives; None: those of its usual image size. The
                maps of a convolutional network have the sizes that follow from the images.

        Returns:
            list[Tensor]: (B, C, h, w), with the channels in ``map_widths``.
        """
        raise NotImplementedError

    def train(self, mode=True):
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, images):
        return self.positions(images).mean((2, 3))

    def positions(self, images):
        """(B, 3, H, W) in [0, 255] -> (B, width, h, w)."""
        raise NotImplementedError


class InceptionFeatures(FeatureNetwork):
    """InceptionV3 of FID (Heusel et al. 2017), as torch-fidelity and pytorch-fid use it.

    Args:
        resize (str): 'torch-fidelity' or 'pytorch-fid'; the two differ in how they resize to 299 px.
        weights (str): path of the file of either package; None: see `find_weights`.
        layer (str): '2048' of published numbers, or '64', '192', '768'.

    Raises:
        MissingLibrary: torch-fidelity is not installed.
        PerceptualWeightsMissing: there are no weights.
        SettingError: no such layer, or a file of another network.
    """

    def __init__(self, resize, weights=None, layer='2048'):
        super().__init__()
        if layer not in _INCEPTION_ENDS:
            raise SettingError(f'layer={layer!r}: InceptionV3 has {", ".join(map(repr, _INCEPTION_ENDS))}')
        if importlib.util.find_spec('torch_fidelity') is None:  # its import takes seconds
            import_extra('torch_fidelity', 'fid')
        path = find_weights(INCEPTION_URL, weights, "FID needs InceptionV3's weights", 'weights',
                            "features='stlpips-vgg' needs no download; its distance is another number.")
        module = import_torch_fidelity('feature_extractor_inceptionv3')
        self.fingerprint = _sha256(path)
        # Torch-fidelity would unpickle any object in the file. It gets a copy of what is known to be tensors.
        copy = io.BytesIO()
        torch.save(read_weights(path), copy)
        copy.seek(0)
        try:
            with torch.random.fork_rng(devices=[]):
                network = module.FeatureExtractorInceptionV3('inception-v3-compat', [layer],
                                                             feature_extractor_weights_path=copy)
        except RuntimeError as error:
            raise SettingError(f"{path} does not hold the weights of FID's InceptionV3: "
                               f'{" ".join(str(error).split())[:200]}') from error
        names = [name for name, _ in network.named_children()]
        # Its children stand in the order in which they run.
        self.body = nn.Sequential(*list(network.children())[:names.index(_INCEPTION_ENDS[layer]) + 1])
        self.requires_grad_(False).eval()
        self.resize, self.width = resize, int(layer)
        self.name = 'inception' if resize == 'torch-fidelity' else 'inception-pytorch-fid'
        self.description = f"InceptionV3 of FID, {layer} features, resized to 299 px as {resize} does"

    def positions(self, images):
        size, x = (_INCEPTION_EDGE, _INCEPTION_EDGE), images.to(torch.float32)
        if self.resize == 'torch-fidelity':
            interpolate = import_torch_fidelity('interpolate_compat_tensorflow')
            x = interpolate.interpolate_bilinear_2d_like_tensorflow1x(x, size=size, align_corners=False)
            x = (x - 128) / 128
        else:
            x = 2 * F.interpolate(x / 255, size=size, mode='bilinear', align_corners=False) - 1
        return self.body(x)


class STLPIPSFeatures(FeatureNetwork):
    """Mean over positions of the last feature map of ST-LPIPS' trunk (Ghildyal and Liu 2022); needs no download.

    Args:
        net (str): 'vgg' or 'alex'.
    """

    def __init__(self, net):
        super().__init__()
        self.network = STLPIPS(net)
        self.name, self.width = f'stlpips-{net}', len(self.network.heads[-1])
        self.map_widths = [len(head) for head in self.network.heads]
        self.min_size = self.network.min_size
        self.description = f'trunk of ST-LPIPS ({net}), {self.width} features of its last stage'

    def maps(self, images, grid=None):
        """The output of each stage; see `FeatureNetwork.maps`.

        Raises:
            SettingError: the images are smaller than ``min_size``.
        """
        if min(images.shape[-2:]) < self.min_size:
            raise SettingError(f'{images.shape[-1]}x{images.shape[-2]} px: features of {self.name} need at least '
                               f'{self.min_size}x{self.min_size} px')
        return list(self.network._features(images))

    def positions(self, images):
        *_, last = self.network._features(images.to(torch.float32) / 127.5 - 1)
        return last


class DINOFeatures(FeatureNetwork):
    """Class token of DINOv2 (Oquab et al. 2023), of images resized to 224 px, bicubic with antialiasing.

    Args:
        weights (str): folder in the format of transformers, with config.json and model.safetensors.

    Raises:
        MissingLibrary: transformers is not installed.
        PerceptualWeightsMissing: no folder is given, or there is none.
    """

    def __init__(self, weights=None):
        super().__init__()
        folder = None if weights is None else Path(weights).expanduser()
        if folder is None or not (folder / 'config.json').is_file():
            raise PerceptualWeightsMissing(
                f"FDD needs DINOv2's weights ({'none named' if folder is None else f'no config.json in {folder}'}"
                "): fetch the folder of facebook/dinov2-large from the Hugging Face Hub (config.json, "
                "model.safetensors) and name it with weights='/path/to/dinov2-large'")
        transformers = import_transformers()
        device = torch.empty(0).device
        with torch.random.fork_rng(devices=[]), torch.device('cpu'):  # it reads no weights where meta is the default
            self.network = transformers.Dinov2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.network.to(device)
        self.requires_grad_(False).eval()
        self.fingerprint = _sha256(folder / 'model.safetensors')
        self.name, self.width = 'dinov2', self.network.config.hidden_size
        self.map_widths = [self.width] * self.network.config.num_hidden_layers
        self.description = f'class token of DINOv2, {self.width} features, resized to {_DINO_EDGE} px (bicubic)'
        for name, values in (('shift', _IMAGENET_MEAN), ('scale', _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def maps(self, images, grid=None):
        """The patch tokens after each block, the last ones normalised; see `FeatureNetwork.maps`.

        The images are resized so that the tokens lie on ``grid``.
        """
        patch = self.network.config.patch_size
        height, width = (_DINO_EDGE // patch,) * 2 if grid is None else grid
        x = _resize((images.to(torch.float32) + 1) / 2, (height * patch, width * patch))
        found = self.network(pixel_values=(x - self.shift) / self.scale, output_hidden_states=True)
        blocks = [*found.hidden_states[1:-1], found.last_hidden_state]
        return [tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width)) for tokens in blocks]

    def forward(self, images):
        return self._tokens(images)[:, 0]

    def positions(self, images):
        """The patch tokens, (B, width, 256)."""
        return self._tokens(images)[:, 1:].transpose(1, 2)

    def _tokens(self, images):
        x = _resize(images.to(torch.float32) / 255, (_DINO_EDGE, _DINO_EDGE)).clamp(0, 1)
        return self.network(pixel_values=(x - self.shift) / self.scale).last_hidden_state


def _resize(images, size):
    return F.interpolate(images, size=size, mode='bicubic', align_corners=False, antialias=True)


class _OwnFeatures(FeatureNetwork):
    """A network of the user's own."""

    def __init__(self, path, weights):
        super().__init__()
        module, _, name = path.rpartition('.')
        try:
            kind = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise SettingError(f'features={path!r}: {error}') from error
        self.network = (kind() if weights is None else kind(weights)).eval().requires_grad_(False)
        self.name = path
        self.fingerprint = '' if weights is None else _sha256(Path(weights).expanduser())

    @functools.cached_property
    def width(self):
        with torch.no_grad():
            return self.network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape[1]

    @functools.cached_property
    def map_widths(self):
        if not hasattr(self.network, 'maps'):
            return []
        with torch.no_grad():
            return [found.shape[1] for found in self.maps(torch.zeros(1, 3, 64, 64))]

    @property
    def description(self):
        return f'{self.name}, {self.width} features'

    def maps(self, images, grid=None):
        return [found.float() for found in self.network.maps(images, grid)]

    def forward(self, images):
        return self.network(images).float()

    positions = forward


_NAMED = {
    'inception': lambda weights, layer: InceptionFeatures('torch-fidelity', weights, layer or '2048'),
    'inception-pytorch-fid': lambda weights, layer: InceptionFeatures('pytorch-fid', weights, layer or '2048'),
    'dinov2': lambda weights, layer: DINOFeatures(weights),
    'stlpips-vgg': lambda weights, layer: STLPIPSFeatures('vgg'),
    'stlpips-alex': lambda weights, layer: STLPIPSFeatures('alex')}


def load_features(name, weights=None, layer=None):
    """A new FeatureNetwork by name.

    Args:
        name (str): of the table above, or the dotted path of a class.
        weights (str): file or folder of weights.
        layer (str): of an InceptionV3.

    Raises:
        MissingLibrary, PerceptualWeightsMissing: see the class of the network.
        SettingError: no such network, or a setting that it does not have.
    """
    if name not in _NAMED and '.' not in name:
        raise SettingError(f'features={name!r}: use one of {", ".join(_NAMED)}, or the dotted path of a class')
    if layer is not None and not name.startswith('inception'):
        raise SettingError(f'layer={layer!r}: only InceptionV3 has layers to choose from; leave it out')
    if weights is not None and name.startswith('stlpips'):
        raise SettingError(f'weights={weights!r}: a package brings the weights of {name}; leave it out')
    return _NAMED[name](weights, layer) if name in _NAMED else _OwnFeatures(name, weights)


@functools.lru_cache(maxsize=8)
def find_features(name, weights=None, layer=None):
    """As `load_features`, but one and the same for equal arguments, so that metrics share it."""
    return load_features(name, weights, layer)


def load_maps(name, weights=None):
    """A new FeatureNetwork with feature maps, for use inside a loss or discriminator: a constant, see `as_constant`.

    Raises:
        As `load_features`; SettingError: the network has no feature maps.
    """
    network = load_features(name, weights)
    if not network.map_widths:
        raise SettingError(f'features={name!r} gives vectors and no feature maps; use dinov2, stlpips-vgg, '
                           'stlpips-alex, or the dotted path of a class with a method maps')
    as_constant(network)  # changes it in place; it stays in evaluation mode by itself
    return network


def _sha256(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()[:16]
