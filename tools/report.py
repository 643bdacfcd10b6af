"""One page about runs: ``python tools/report.py RUN... [--out DIR]``."""

import argparse
import time

from wfvae_toolkit.utils.options import friendly_errors, whole


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Write a page that opens from disk: scores and whether they differ, '
                                                 'the worst pictures, curves, latents, settings.')
    parser.add_argument('folders', nargs='+', metavar='RUN',
                        help='what train.py, test.py, compare_folders.py or ablate.py wrote, in any mixture; the '
                             'others are compared with the first')
    parser.add_argument('--out', metavar='DIR', help='(default: report/ in RUN, beside the first of several)')
    parser.add_argument('--pictures', type=whole(0), default=200, metavar='N',
                        help='show at most N pictures; scores are shown of all images (default: %(default)s)')
    parser.add_argument('--watch', type=whole(1), metavar='SECONDS',
                        help='write it again every SECONDS until Ctrl-C; an open page reloads itself')
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.report import write_report

    page = write_report(options.folders, options.out, options.pictures, live=options.watch is not None)
    print(f'report: {page}', flush=True)
    try:
        while options.watch is not None:
            time.sleep(options.watch)
            write_report(options.folders, options.out, options.pictures, live=True)
    except KeyboardInterrupt:
        # The page need not ask any more.
        write_report(options.folders, options.out, options.pictures)


if __name__ == '__main__':
    main()
