"""Print a config with everything that it inherits, or what it changes: ``... print_config.py CONFIG [--diff BASE]``."""

import argparse

from wfvae_toolkit.utils.options import add_config_arguments, friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Print a config with everything that it inherits, or what it changes '
                                                 'against another one.')
    add_config_arguments(parser)
    parser.add_argument('--diff', metavar='BASE', help='print the keys whose values differ from the config BASE: '
                                                       '+ new, - removed, ~ changed; --cfg-options apply to CONFIG '
                                                       'only')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis.config_diff import compare_configs, format_changes
    from wfvae_toolkit.utils.config import load_config

    cfg = load_config(options.config, options.cfg_options)
    if options.diff is None:
        print(cfg.pretty_text)
    else:
        base = load_config(options.diff)
        print(format_changes(compare_configs(base.to_dict(), cfg.to_dict())))


if __name__ == '__main__':
    main()
