"""Cost and error of tiling: ``python tools/analysis_tools/tiling_table.py MODEL|CONFIG [--sizes 512x768 ...]``."""

import argparse

from wfvae_toolkit.utils.options import add_import_argument, friendly_errors


def size(text):
    width, height = text.split('x')
    return int(width), int(height)


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Time, peak memory and largest error of an autoencoder, with and '
                                                 'without tiling.')
    parser.add_argument('source', metavar='MODEL|CONFIG', help='a trained model, or a config (random weights)')
    parser.add_argument('--sizes', type=size, nargs='+', default=[(512, 768), (1024, 1024)], metavar='WxH',
                        help='pictures in px (default: 512x768 1024x1024)')
    parser.add_argument('--tile', type=int, default=512, metavar='PX', help='edge of a tile (default: 512)')
    parser.add_argument('--tiled-only', action='store_true', help='do not measure without tiling, which needs more '
                        'memory')
    add_import_argument(parser)
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis.tiling import format_costs, measure_tiling
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    print(format_costs(measure_tiling(options.source, options.sizes, options.tile, untiled=not options.tiled_only,
                                      imports=options.imports)))


if __name__ == '__main__':
    main()
