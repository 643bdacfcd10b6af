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


def best_map(latents, features, steps=200):
    """(B, C, h, w) and (B, D, h, w) -> (D, C): the linear map with the smallest row, by Adam after ridge regression."""
    z, f = (x.double().transpose(0, 1).flatten(1) for x in (latents, features))
    products = z @ z.T
    ridge = RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    found = torch.linalg.solve(products + ridge, z @ f.T).T.float().requires_grad_()
    optimizer = torch.optim.Adam([found], lr=0.02 * found.detach().std().item())
    for _ in range(steps):
        optimizer.zero_grad()
        sum(gaps(found, latents, features)).backward()
        optimizer.step()
    return found.detach()


def gaps(linear_map, latents, features, margins=(0.5, 0.25)):
    """L_mcos and L_mdms of mapped latents and features, with the paper's margins."""
    from .loss import cosine_gap, matrix_gap

    mapped = torch.einsum('dc,bchw->bdhw', linear_map, latents)
    return cosine_gap(mapped, features, margins[0]), matrix_gap(mapped, features, margins[1])


def main(arguments=None):
    parser = argparse.ArgumentParser(description="The row's two terms on images of its own, with the linear map that "
                                                 'fits the training images best.')
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
        found = [vectors(autoencoder, network, options.layer, from_bytes(sample.image[None])) for sample in crops]
        return [torch.cat(part) for part in zip(*found, strict=True)]

    linear_map, (latents, features) = best_map(*pairs(options.train)), pairs(options.val)
    with torch.no_grad():
        cosine, difference = gaps(linear_map, latents, features, margins=(0.0, 0.0))
        mcos, mdms = gaps(linear_map, latents, features)
    print(f'{len(latents)} images: L_mcos {mcos:.4f}, L_mdms {mdms:.4f}; '
          f'without margins {cosine:.4f}, {difference:.4f}')


if __name__ == '__main__':
    main()
