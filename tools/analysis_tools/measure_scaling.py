"""Speed with several processes: ``python tools/analysis_tools/measure_scaling.py CONFIG [--processes 2]``."""

import argparse
from pathlib import Path

from wfvae_toolkit.utils.options import add_config_arguments, friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Alternately train with one process on its share of the cores and '
                                                 'with several on all cores (one per GPU if there are GPUs).')
    add_config_arguments(parser)
    parser.add_argument('--processes', type=int, default=2, metavar='N')
    parser.add_argument('--rounds', type=int, default=3, metavar='N', help='trainings of each (default: 3)')
    parser.add_argument('--iterations', type=int, default=20, metavar='N',
                        help='a third of those of a training (default: 20)')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis.scaling import format_scaling, measure_scaling

    scaling = measure_scaling(options.config, Path(__file__).resolve().parents[1], options.cfg_options,
                              options.processes, options.rounds, options.iterations)
    print(format_scaling(scaling))


if __name__ == '__main__':
    main()
