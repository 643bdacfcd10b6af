"""How well latents follow a frozen network's features: ``python -m vf_alignment.measure CHECKPOINT TRAIN VAL``."""

import argparse

import torch

RIDGE = 1e-3  # of the mean square of a latent channel: keeps the fit finite where a channel carries nothing


@torch.no_grad()
def vectors(autoencoder, network, layer, images):
    """Images (B, 3, H, W) in [-1, 1] -> posterior means (B, C, h, w) and features of unit length (B, D, h, w)."""
    from .loss import frozen_features

    latents = autoencoder.encode(images).latent_dist.mode()
    features = frozen_features(network, images, latents.shape[-2:], layer)
    return latents, torch.nn.functional.normalize(features, dim=1)


def best_map(pairs):
    """[(latents, features)] -> (D, C): the linear map with the least squared error, by ridge regression in float64."""
    products = cross = 0.0
    for latents, features in pairs:
        z, f = (x.double().transpose(0, 1).flatten(1) for x in (latents, features))
        products, cross = products + z @ z.T, cross + f @ z.T
    ridge = RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    return torch.linalg.solve(products + ridge, cross.T).T


def agreement(linear_map, latents, features):
    """Mean cosine of mapped latents and features, and mean |difference| of their matrices of cosines: two floats."""
    from .loss import matrix_gap

    mapped = torch.einsum('dc,bchw->bdhw', linear_map.float(), latents)
    cosine = torch.nn.functional.cosine_similarity(mapped, features, dim=1).mean()
    return cosine.item(), matrix_gap(mapped, features, 0.0).item()


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Agreement of latents with a frozen network's features, after the "
                                                 'best linear map of the training images.')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help="a file, or a run's folder for its newest one")
    parser.add_argument('train', metavar='TRAIN', help='folder of images that the map is fitted on')
    parser.add_argument('val', metavar='VAL', help='folder of images that are measured')
    parser.add_argument('--features', default='stlpips-alex', metavar='NAME', help='default: stlpips-alex')
    parser.add_argument('--weights', metavar='PATH', help="the network's weights")
    parser.add_argument('--layer', type=int, default=-1, metavar='N', help='which map (default: the last)')
    parser.add_argument('--crop', type=int, default=256, metavar='PX', help='centre crop (default: 256)')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.checkpoints import read_model
    from wfvae_toolkit.datasets import ImageFolder
    from wfvae_toolkit.models.perceptual.features import load_maps
    from wfvae_toolkit.utils.pixels import from_bytes

    autoencoder = read_model(options.checkpoint).build()
    network = load_maps(options.features, options.weights)

    def pairs(folder):
        crops = ImageFolder(folder, pipeline=[dict(type='CenterCrop', size=options.crop)])
        return [vectors(autoencoder, network, options.layer, from_bytes(sample.image[None])) for sample in crops]

    linear_map = best_map(pairs(options.train))
    found = [agreement(linear_map, *pair) for pair in pairs(options.val)]
    cosine, gap = (sum(values) / len(found) for values in zip(*found, strict=True))
    print(f'{len(found)} images: cosine {cosine:.4f}, matrix difference {gap:.4f}')


if __name__ == '__main__':
    main()
