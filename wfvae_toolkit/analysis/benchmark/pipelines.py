"""Works around the networks: reading photographs, scoring them; ours against the usual libraries."""

import tempfile
from pathlib import Path

import torch
from PIL import Image

from wfvae_toolkit.datasets.base import build_dataset
from wfvae_toolkit.evaluation import ReconstructionEvaluator
from wfvae_toolkit.utils.errors import import_extra
from wfvae_toolkit.utils.pixels import to_bytes
from wfvae_toolkit.utils.torchvision_shim import import_lpips, import_torchvision

PHOTO_SIZE = (4000, 3000)  # 12 megapixels
CROP = 1024


def data_works(folder):
    """Ours and the usual pipeline from one 12-megapixel JPEG to a 1024 px training crop: (3, 1024, 1024) uint8.

    Args:
        folder (Path): gets the photograph, an enlarged picture of scikit-image.
    """
    photograph = Path(folder) / 'photograph.jpg'
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
    with tempfile.TemporaryDirectory() as folder:
        trunk = Path(folder) / 'trunk.pth'
        # As torchvision names it: numbered layers under 'features'.
        torch.save({f'features.{name.partition(".")[2]}': value for name, value in theirs.net.state_dict().items()},
                   trunk)
        evaluator = ReconstructionEvaluator(dict(
            PSNR=dict(type='PSNR'), SSIM=dict(type='SSIM'),
            LPIPS=dict(type='LPIPS', net=net, trunk_weights=str(trunk))))
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
        pairs = [tuple(to_bytes(image).permute(1, 2, 0).numpy() for image in pair)
                 for pair in zip(target, reconstruction, strict=True)]
        psnr = [metrics.peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs]
        ssim = [metrics.structural_similarity(*pair, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                              use_sample_covariance=False) for pair in pairs]
        with torch.no_grad():
            lpips = [theirs(*(torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in pair)).item()
                     for pair in pairs]
        return {'PSNR': psnr, 'SSIM': ssim, 'LPIPS': lpips}

    return {'ours': ours, 'three passes': three_passes}
