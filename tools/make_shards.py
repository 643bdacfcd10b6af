"""Write tar shards: ``python tools/make_shards.py FOLDER|MANIFEST OUT [--shard-size 1GB] [--shuffle 0]``."""

import argparse
import sys

from wfvae_toolkit.utils.options import friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Write pictures into tar shards in the layout of WebDataset, and an '
                                                 'index of them. ImageShards reads them. The same command goes on '
                                                 'after a stop.')
    parser.add_argument('data', metavar='DATA', help='a folder with its subfolders, a manifest, or a table or '
                                                     'shards, also by URL')
    parser.add_argument('out', metavar='OUT', help='a folder for the shards, made if missing')
    parser.add_argument('--shard-size', default='1GB', metavar='SIZE',
                        help='largest size of a shard, such as 500MB or 2GiB (default: 1GB)')
    parser.add_argument('--shuffle', type=int, metavar='SEED',
                        help='write the pictures in a random order that this seed decides, so that each shard holds '
                             'a sample of all; without it they keep their order')
    parser.add_argument('--mask-keys', nargs='+', default=[], metavar='KEY',
                        help='keys of a manifest that hold the path of a mask, which is written beside the picture')
    parser.add_argument('--allow-outside', action='store_true',
                        help='accept paths of a manifest that leave its folder')
    options = parser.parse_args(arguments)

    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.datasets import write_shards

    written = write_shards(options.data, options.out, options.shard_size, options.shuffle, options.mask_keys,
                           options.allow_outside)
    for bad in written.left_out:
        print(f'left out: {bad.path}: {bad.reason}', file=sys.stderr)
    if written.left_out:
        print(f'{len(written.left_out)} files could not be read and were left out', file=sys.stderr)
    print(f'{options.out}: {written.pictures} pictures in {written.shards} shards')


if __name__ == '__main__':
    main()
