"""Sizes of a config's autoencoder: ``python tools/analysis_tools/model_summary.py CONFIG [--size 256]``."""

import argparse

from wfvae_toolkit.utils.options import add_config_arguments, friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description="Parameters, FLOPs and latent size of a config's autoencoder.")
    add_config_arguments(parser)
    parser.add_argument('--size', type=int, default=256, metavar='PX', help='edge of the image that FLOPs are counted '
                        'for')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis.summary import format_summary, summarize_model
    from wfvae_toolkit.utils.config import load_config

    print(format_summary(summarize_model(load_config(options.config, options.cfg_options).model, options.size)))


if __name__ == '__main__':
    main()
