"""Cache latents: ``python tools/cache_latents.py MODEL DATA OUT --resolution 256 [--what moments] [--flips]``."""

import argparse
import sys

from wfvae_toolkit.utils.options import (
    add_image_arguments,
    add_launcher_argument,
    add_model_arguments,
    friendly_errors,
    whole,
)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Write the latents of a dataset into safetensors shards, which '
                                                 'wfvae_toolkit.latents.CachedLatents reads. Run again to resume.')
    add_model_arguments(parser, '--precision')
    parser.add_argument('data', metavar='DATA', help='a folder with its subfolders, a manifest, or tar '
                                                     'shards or a table, also by URL')
    parser.add_argument('out', metavar='OUT', help='folder of the shards and of index.json')
    parser.add_argument('--what', choices=('moments', 'mean', 'sample'),
                        help='mean and logvar, the mean, or one sample of the posterior (default: moments; mean where '
                             'the posterior is no Gaussian)')
    parser.add_argument('--flips', action='store_true', help='also store the latent of the mirror image')
    parser.add_argument('--dtype', choices=('float32', 'float16', 'bfloat16'), default='float32',
                        help='dtype of the files (default: float32)')
    parser.add_argument('--normalized', action='store_true',
                        help="store normalised latents; by default raw ones, and the model's statistics in the index")
    parser.add_argument('--seed', type=int, default=0, help='seed of samples (default: 0)')
    parser.add_argument('--shard-size', type=int, default=1024, metavar='N', help='pictures per shard (default: 1024)')
    parser.add_argument('--batch-size', type=whole(1), default=8, metavar='N',
                        help='pictures per batch and rank (default: 8)')
    parser.add_argument('--allow-outside', action='store_true', help="allow pictures outside the manifest's folder")
    parser.add_argument('--skip-bad', action='store_true', help='leave out files that cannot be read')
    add_image_arguments(parser)
    add_launcher_argument(parser)
    options = parser.parse_args(arguments)
    if options.resolution is None and options.crop is None:
        parser.error('all cached latents have one size: give --resolution, --crop or both')
    return options


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.utils import distributed
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    with distributed.process_group(options.launcher, options.device):
        import torch

        from wfvae_toolkit.checkpoints import read_model
        from wfvae_toolkit.datasets import fixed_pipeline, open_images
        from wfvae_toolkit.inference import Reconstructor
        from wfvae_toolkit.latents.write_cache import CacheSettings, LatentCache, default_what

        pipeline = fixed_pipeline(options.resolution, options.crop)
        model = read_model(options.model, options.weights)
        reconstructor = Reconstructor(model.build(), None, options.device, getattr(torch, options.precision))
        settings = CacheSettings(options.what or default_what(reconstructor.autoencoder), options.flips, options.dtype,
                                 options.normalized, options.seed, options.shard_size)
        dataset = open_images(options.data, pipeline, options.allow_outside, options.convert_to_srgb)
        cache = LatentCache(model, reconstructor, dataset, pipeline,
                            options.crop or options.resolution, options.out, settings, options.max_images, options.data)
        index = cache.fill(options.batch_size, options.skip_bad, options.workers)
        if distributed.is_main():
            for bad in index.skipped:
                print(f'left out: {bad["path"]}: {bad["reason"]}', file=sys.stderr)
            print(f'{options.out}: {sum(len(shard["names"]) for shard in index.shards)} latents of '
                  f'{"x".join(map(str, index.latent_shape))} in {len(index.shards)} shards')


if __name__ == '__main__':
    main()
