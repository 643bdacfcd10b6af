"""Speed of loading alone: ``python tools/analysis_tools/benchmark_loading.py [--case 1024] [--entries 1000000]``."""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

from wfvae_toolkit.utils.options import friendly_errors


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Load training crops from made-up JPEGs, by our datasets and by other '
                                                 'libraries, and print pictures a second and core.')
    parser.add_argument('--case', choices=('1024', '12mp'), default='1024',
                        help='1024: from 1024 to 256 px; 12mp: from 4000x3000 to 1024 px (default: 1024)')
    parser.add_argument('--readers', nargs='+', metavar='NAME',
                        help='folder, shards, table, each also with ", fast"; webdataset, "webdataset, rgb8", litdata, '
                             'torchvision (default: those that are installed)')
    parser.add_argument('--against', default='webdataset', metavar='NAME', help='of the ratios (default: webdataset)')
    parser.add_argument('--workers', type=int, nargs='+', default=[0], metavar='N', help='processes (default: 0)')
    parser.add_argument('--files', type=int, default=200, metavar='N', help='JPEGs to make (default: 200)')
    parser.add_argument('--pictures', type=int, default=200, metavar='N', help='to load (default: 200)')
    parser.add_argument('--rounds', type=int, default=3, metavar='N', help='in which readers take turns (default: 3)')
    parser.add_argument('--cold', action='store_true', help='take the files out of the cache of the system before')
    parser.add_argument('--entries', type=int, metavar='N',
                        help='in place of all that, make shards of N tiny pictures (1 KiB each), and print what their '
                             'index, their memory and a start at far positions cost (Linux)')
    parser.add_argument('--json', metavar='FILE', help='write every measurement')
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    from importlib.util import find_spec

    from wfvae_toolkit.analysis import loading
    from wfvae_toolkit.utils.files import write_json

    if options.entries:
        with tempfile.TemporaryDirectory() as folder:
            print('\n'.join(loading.describe_opening(loading.measure_opening(Path(folder) / 'many', options.entries))))
        return
    lacking = [package for package in ('webdataset', 'litdata') if not find_spec(package)]
    readers = options.readers or [name for name in loading.READERS if name.partition(',')[0] not in lacking]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        loading.write_pictures(Path(folder), options.case, options.files)
        for workers in options.workers:
            found = loading.compare(readers, Path(folder), options.case, workers, options.pictures, options.rounds,
                                    options.cold, report=lambda line: None)
            print(f'\n{options.case}, {workers} workers, {"cold" if options.cold else "warm"}\n')
            against = options.against if options.against in found else None
            print('\n'.join(loading.format_loads(found, against)), flush=True)
            rows += [dict(case=options.case, workers=workers, cold=options.cold, reader=reader, **asdict(load))
                     for reader, loads in found.items() for load in loads]
    if options.json:
        write_json(options.json, rows)
        print(f'written: {options.json}')


if __name__ == '__main__':
    main()
