"""Reconstruct pictures: ``python tools/reconstruct.py MODEL INPUT OUTPUT [--format png] [--beside]``."""

import argparse
import sys

from wfvae_toolkit.utils.options import (
    add_image_arguments,
    add_launcher_argument,
    add_model_arguments,
    friendly_errors,
)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description="Reconstruct pictures through the posterior's mean, at their own "
                                                 'size, under the same relative names.')
    add_model_arguments(parser)
    parser.add_argument('input', metavar='INPUT', help='a picture, a folder with its subfolders, a '
                                                       'manifest, or tar shards or a table, also by URL')
    parser.add_argument('output', metavar='OUTPUT', help='a folder; for one picture also a name such as out.png')
    parser.add_argument('--format', choices=('png', 'webp', 'jpg'), help='file format of the reconstructions '
                        '(default: png)')
    parser.add_argument('--quality', type=int, metavar='Q', help='1 to 100, of webp and jpg (default: 95)')
    parser.add_argument('--beside', action='store_true',
                        help='also write what the model saw: NAME.original.png beside NAME.png')
    parser.add_argument('--existing', choices=('error', 'skip', 'replace'), default='error',
                        help='outputs that are there: stop before anything is written, keep and go on, or replace')
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

        from wfvae_toolkit.datasets import fixed_pipeline, open_images
        from wfvae_toolkit.inference import Reconstructor
        from wfvae_toolkit.inference.reconstruction import format_of, plan_outputs, reconstruct_files

        dataset = open_images(options.input, fixed_pipeline(options.resolution, options.crop),
                              convert_to_srgb=options.convert_to_srgb)
        picture_format = format_of(options.output, options.format, options.quality)
        planned = plan_outputs(dataset, options.output, f'.{picture_format.name}', options.max_images,
                               options.existing, options.beside)
        model = Reconstructor.from_pretrained(options.model, options.weights, options.device,
                                              getattr(torch, options.dtype))
        bad_files = reconstruct_files(model, dataset, planned, picture_format, options.beside, options.workers)
        if distributed.is_main():
            for bad in bad_files:
                print(f'not reconstructed: {bad.path}: {bad.reason}', file=sys.stderr)
            kept = f', {planned.skipped} were there already' if planned.skipped else ''
            print(f'{options.output}: {len(planned.paths) - len(bad_files)} pictures written{kept}')
    if bad_files:
        sys.exit(f'{len(bad_files)} files could not be read')


if __name__ == '__main__':
    main()
