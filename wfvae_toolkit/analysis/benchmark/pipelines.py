"""Works around the networks: reading photographs, scoring them; ours against the usual libraries."""

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wfvae_toolkit.datasets.base import build_dataset
from wfvae_toolkit.evaluation import ReconstructionEvaluator
from wfvae_toolkit.utils.errors import import_extra
from wfvae_toolkit.utils.torchvision_shim import import_lpips, import_torchvision

DATA_MODELS = ('ours', 'pillow+torchvision')
EVALUATION_MODELS = ('ours', 'three passes')
PHOTO_SIZE = (4000, 3000)  # 12 megapixels
CROP = 1024


def data_works(folder):
    """Ours and the usual pipeline from one 12-megapixel JPEG to a 1024 px training crop: (3, 1024, 1024) uint8.

    Args:
        folder (Path): gets the photograph, an enlarged picture of scikit-image.
    """
    photograph = Path(folder) / 'photograph.jpg'
    if not photograph.exists():
        data = import_extra('skimage.data', 'demo')
        Image.fromarray(data.astronaut()).resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(photograph, quality=90)
    dataset = build_dataset(dict(
        type='ImageFolder', data_root=str(folder), decoder='fast',
        pipeline=[dict(type='ResizeShortSide', size=CROP), dict(type='CenterCrop', size=CROP)]), 'dataset')
    transforms = import_torchvision().transforms
    usual = transforms.Compose([
        transforms.Resize(CROP, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(CROP),
        transforms.PILToTensor()])

    def with_torchvision():
        with Image.open(photograph) as image:
            return usual(image.convert('RGB'))

    return {'ours': lambda: dataset[0].image, 'pillow+torchvision': with_torchvision}


def evaluation_works(size, batch, net='alex'):
    """PSNR, SSIM and LPIPS of a batch in one pass, and one image at a time by scikit-image and the lpips package.

    Both LPIPS share one trunk of random weights, whose cost is that of trained ones; each work returns
    {'PSNR': [...], 'SSIM': [...], 'LPIPS': [...]}, the same to rounding.
    """
    metrics = import_extra('skimage.metrics', 'demo')
    torch.manual_seed(0)
    theirs = import_lpips().LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False).eval()
    evaluator = ReconstructionEvaluator(dict(
        PSNR=dict(type='PSNR'), SSIM=dict(type='SSIM'),
        LPIPS=dict(type='LPIPS', net=net, trunk_weights=_save_trunk(theirs))))
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(batch, 3, size, size, generator=generator) * 2 - 1
    reconstruction = (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(-1, 1)
    names, numbers = [f'{i}.png' for i in range(batch)], range(batch)

    def ours():
        evaluator.reset()
        evaluator.process('', numbers, names, target, reconstruction)
        rows = evaluator.summarize().rows
        return {name: [row[name] for row in rows] for name in ('PSNR', 'SSIM', 'LPIPS')}

    def three_passes():
        pairs = [tuple(_bytes(image) for image in pair) for pair in zip(target, reconstruction, strict=True)]
        psnr = [metrics.peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs]
        ssim = [metrics.structural_similarity(*pair, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                              use_sample_covariance=False) for pair in pairs]
        with torch.no_grad():
            lpips = [theirs(*(torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in pair)).item()
                     for pair in pairs]
        return {'PSNR': psnr, 'SSIM': ssim, 'LPIPS': lpips}

    return {'ours': ours, 'three passes': three_passes}


def _bytes(image):
    """(3, H, W) in [-1, 1] -> (H, W, 3) uint8."""
    return ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy().astype(np.uint8)


def _save_trunk(network):
    """The random trunk of an ``lpips.LPIPS`` as torchvision would save it."""
    convolutions = [layer for layer in network.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    state = {}
    for number, convolution in enumerate(convolutions):
        state[f'features.{number}.weight'] = convolution.weight.detach()
        state[f'features.{number}.bias'] = convolution.bias.detach()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = Path(tempfile.mkdtemp(prefix='trunk_')) / 'trunk.pth'
    path.write_bytes(buffer.getvalue())
    return str(path)
