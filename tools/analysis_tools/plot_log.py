"""Compare runs in one figure: ``python tools/analysis_tools/plot_log.py WORK_DIR [WORK_DIR ...] [--names PSNR kl]``."""

import argparse

from wfvae_toolkit.utils.options import friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Compare runs in one figure, one panel per logged value.')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='folder of a run, with its log.jsonl')
    parser.add_argument('--output', default='runs.png', metavar='FILE.png', help='(default: %(default)s)')
    parser.add_argument('--names', nargs='+', metavar='NAME',
                        help='logged values, such as PSNR per_pixel/pixel val/flat/grid (default: scores, pixel, kl, '
                             'discriminator)')
    parser.add_argument('--smooth', type=int, default=1, metavar='N', help='mean over the last N logged rows')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.visualization.compare import compare_runs
    from wfvae_toolkit.visualization.curves import draw_curves

    panels = compare_runs(options.work_dirs, options.names, options.smooth)
    draw_curves(panels, options.output)
    print(f'{options.output}: {", ".join(panels)}')


if __name__ == '__main__':
    main()
