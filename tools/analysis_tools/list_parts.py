"""List what a config can name: ``python tools/analysis_tools/list_parts.py [--registry LOSSES] [--json FILE]``."""

import argparse

from wfvae_toolkit.utils.options import add_import_argument, friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='List every registered part with its origin, settings and purpose; '
                                                 'plug-ins included.')
    parser.add_argument('--registry', metavar='NAME', help="only this one: 'loss' or LOSSES, 'mid block' or MID_BLOCKS")
    add_import_argument(parser)
    parser.add_argument('--json', metavar='FILE', help='also write the list to this file')
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis.parts import as_records, format_parts, list_parts
    from wfvae_toolkit.utils.files import write_json

    parts = list_parts(options.registry, options.imports)
    print(format_parts(parts))
    if options.json:
        write_json(options.json, as_records(parts))


if __name__ == '__main__':
    main()
