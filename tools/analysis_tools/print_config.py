"""Print a config with everything that it inherits: ``python tools/analysis_tools/print_config.py CONFIG``."""

import argparse

from wfvae_toolkit.utils.options import add_config_arguments, friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Print a config with everything that it inherits.')
    add_config_arguments(parser)
    options = parser.parse_args(arguments)

    from wfvae_toolkit.utils.config import load_config

    print(load_config(options.config, options.cfg_options).pretty_text)


if __name__ == '__main__':
    main()
