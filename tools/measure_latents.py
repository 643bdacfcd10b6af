"""Measure latents: ``python tools/measure_latents.py MODEL DATA [--resolution 256] [--max-images 10000]``."""

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
    parser = argparse.ArgumentParser(description="Per-channel mean, std and KL of a model's latents, written into the "
                                                 'model: Reconstructor then gives latents of mean 0 and std 1.')
    add_model_arguments(parser)
    parser.add_argument('data', metavar='DATA', help='a folder with its subfolders, a manifest, or tar '
                                                     'shards or a table, also by URL')
    parser.add_argument('--dry-run', action='store_true', help='print only, write nothing')
    parser.add_argument('--batch-size', type=whole(1), default=8, metavar='N',
                        help='pictures per batch and rank (default: 8)')
    parser.add_argument('--allow-outside', action='store_true', help="allow pictures outside the manifest's folder")
    parser.add_argument('--skip-bad', action='store_true', help='write and exit 0 although files could not be read')
    add_image_arguments(parser)
    add_launcher_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.utils import distributed
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    with distributed.process_group(options.launcher, options.device):
        import torch

        from wfvae_toolkit.checkpoints import check_writable, read_model, write_statistics
        from wfvae_toolkit.datasets import fixed_pipeline, open_images
        from wfvae_toolkit.inference import Reconstructor
        from wfvae_toolkit.latents.measure import describe_pictures, measure_activations, measure_latents
        from wfvae_toolkit.models.activations import describe_activations
        from wfvae_toolkit.utils.urls import shown_url

        pipeline = fixed_pipeline(options.resolution, options.crop)
        dataset = open_images(options.data, pipeline, options.allow_outside, options.convert_to_srgb)
        model = read_model(options.model, options.weights)
        if not options.dry_run:
            check_writable(model)
        reconstructor = Reconstructor(model.build(), None, options.device, getattr(torch, options.dtype))
        measured = measure_latents(reconstructor, dataset, options.max_images, options.batch_size, options.workers)
        full = reconstructor if options.dtype == 'float32' else Reconstructor(model.build(), None, options.device)
        activations = measure_activations(full, dataset, options.max_images, options.workers)
        if distributed.is_main():
            print(f'{measured.table()}\n{describe_activations(activations)}')
            for bad in measured.bad:
                print(f'not measured: {bad.path}: {bad.reason}', file=sys.stderr)
            if not options.dry_run and (options.skip_bad or not measured.bad):
                factor = reconstructor.autoencoder.downsample_factor
                place = write_statistics(model, measured.statistics, measured.record(
                    data=str(shown_url(options.data)), weights=model.weights,
                    pictures=describe_pictures(pipeline, factor, options.convert_to_srgb),
                    order='the first ones, in the order of the folder or manifest', precision=options.dtype,
                    largest_activations=activations))
                print(f'written into {place}')
    if measured.bad and not options.skip_bad:
        sys.exit(f'{len(measured.bad)} files could not be read, nothing is written; --skip-bad accepts that')


if __name__ == '__main__':
    main()
