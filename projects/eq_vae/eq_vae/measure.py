"""How far decoded latents turn and scale with the image: ``python -m eq_vae.measure CHECKPOINT FOLDER``."""

import argparse

TRANSFORMS = {'unchanged': (1.0, 1.0, 0), 'quarter turn': (1.0, 1.0, 1), 'half turn': (1.0, 1.0, 2),
              'half size': (0.5, 0.5, 0), 'half height': (0.5, 1.0, 0), 'quarter size, quarter turn': (0.25, 0.25, 1)}


def equivariance_psnr(autoencoder, images, transform):
    """PSNR in dB of D(T(z)) against T(x), z the posterior's mean; images (B, 3, H, W) in [-1, 1] -> list of B."""
    import torch

    from wfvae_toolkit.evaluation import psnr

    with torch.no_grad():
        latents = autoencoder.encode(images).latent_dist.mode()
        size = transform.latent_size(*latents.shape[2:])
        decoded = autoencoder.decode(transform(latents, size)).sample
        target = transform(images, [autoencoder.downsample_factor * side for side in size])
    return psnr(*((picture.clamp(-1, 1) + 1) / 2 for picture in (target, decoded))).tolist()


def main(arguments=None):
    parser = argparse.ArgumentParser(description='PSNR of transformed latents, decoded, against the transformed image.')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help="a file, or a run's folder for its newest one")
    parser.add_argument('folder', metavar='FOLDER', help='of images')
    parser.add_argument('--crop', type=int, default=256, metavar='PX', help='centre crop (default: 256)')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.checkpoints import read_model
    from wfvae_toolkit.datasets import ImageFolder
    from wfvae_toolkit.utils.pixels import from_bytes

    from .transforms import Transform

    autoencoder = read_model(options.checkpoint).build()
    images = [from_bytes(sample.image[None]) for sample in
              ImageFolder(options.folder, pipeline=[dict(type='CenterCrop', size=options.crop)])]
    for name, settings in TRANSFORMS.items():
        values = [value for image in images for value in equivariance_psnr(autoencoder, image, Transform(*settings))]
        print(f'{name:<28}{sum(values) / len(values):6.2f} dB')


if __name__ == '__main__':
    main()
