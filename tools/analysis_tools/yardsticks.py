"""What an autoencoder has to beat: ``python tools/analysis_tools/yardsticks.py CONFIG [--resolution 256 512]``."""

import argparse

from wfvae_toolkit.utils.options import ParseOptions, add_import_argument, friendly_errors, whole


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description="Scores codes that are not networks on a config's validation pictures, each with as many values as "
                    "the latents of the config's autoencoder: principal components, bicubic reduction, and JPEG and "
                    'WebP files of as many bytes. tools/report.py compares the folders with that of tools/test.py.')
    parser.add_argument('config', metavar='CONFIG', help='file or package::file.py')
    parser.add_argument('--codes', nargs='+', metavar='NAME', default=['pca', 'bicubic', 'jpeg', 'webp'],
                        help='some of pca, bicubic, jpeg, webp (default: all)')
    parser.add_argument('--resolution', type=whole(1), nargs='+', default=[256], metavar='PX',
                        help='resize the short side to PX and crop the centre (default: 256)')
    parser.add_argument('--pictures', type=whole(1), default=200, metavar='N',
                        help='training pictures to which pca is fitted (default: %(default)s)')
    parser.add_argument('--work-dir', default='work_dirs/yardsticks', metavar='DIR',
                        help='receives NAME/PXpx/ with summary.json, metrics.csv and pictures (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE', help='settings')
    add_import_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from pathlib import Path

    from wfvae_toolkit.analysis.yardsticks import measure_code
    from wfvae_toolkit.evaluation import format_table
    from wfvae_toolkit.utils.config import load_config
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    cfg = load_config(options.config, options.cfg_options)
    for resolution in options.resolution:
        for name in options.codes:
            place = Path(options.work_dir).expanduser() / name / f'{resolution}px'
            summary = measure_code(cfg, name, resolution, place, options.pictures)
            print(f'{name}, {resolution} px\n{format_table(summary)}')
            print(f'written to {place}/: summary.json, metrics.csv, pictures/\n')


if __name__ == '__main__':
    main()
