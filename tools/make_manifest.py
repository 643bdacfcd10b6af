"""List the pictures of a folder: ``python tools/make_manifest.py FOLDER OUT [--split 0.9] [--seed 0]``."""

import argparse
import sys

from wfvae_toolkit.utils.options import friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Write a JSON-lines manifest of the pictures under a folder, with '
                                                 'their width and height. ImageManifest reads it.')
    parser.add_argument('folder', metavar='FOLDER', help='scanned with its subfolders')
    parser.add_argument('out', metavar='OUT', help='the manifest, such as data/photos.jsonl; paths are relative to it')
    parser.add_argument('--split', type=float, metavar='SHARE',
                        help='write OUT_train.jsonl, with this share of the pictures, and OUT_val.jsonl; adding '
                             'pictures later does not move the others')
    parser.add_argument('--seed', type=int, default=0, help='seed of the split (default: 0)')
    options = parser.parse_args(arguments)

    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.datasets import write_manifest

    written = write_manifest(options.folder, options.out, options.split, options.seed)
    for line in written.remarks:
        print(line, file=sys.stderr)
    for bad in written.bad:
        print(f'left out: {bad.path}: {bad.reason}', file=sys.stderr)
    for manifest, count in written.counts.items():
        print(f'{manifest}: {count} pictures')
    if written.bad:
        print(f'{len(written.bad)} files could not be read and were left out', file=sys.stderr)
    if written.outside:
        print('the pictures are not in the folder of the manifest: read it with allow_outside=True', file=sys.stderr)


if __name__ == '__main__':
    main()
