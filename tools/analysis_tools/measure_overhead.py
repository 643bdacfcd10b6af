"""Cost of the framework: ``python tools/analysis_tools/measure_overhead.py CONFIG [--start-iter 1000000]``."""

import argparse

from wfvae_toolkit.utils.options import add_config_arguments, friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Loop, hooks and logging of a training iteration against the bare '
                                                 'update of the weights, measured in one run.')
    add_config_arguments(parser)
    parser.add_argument('--start-iter', type=int, default=0, metavar='N', help='first iteration (default: 0)')
    parser.add_argument('--rounds', type=int, default=4, metavar='N', help='rounds of 50 iterations (default: 4)')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis.overhead import format_overhead, measure_overhead
    from wfvae_toolkit.utils.config import load_config

    cfg = load_config(options.config, options.cfg_options)
    print(format_overhead(measure_overhead(cfg, options.start_iter, options.rounds)))


if __name__ == '__main__':
    main()
