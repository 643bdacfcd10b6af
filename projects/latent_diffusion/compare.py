"""Which autoencoder diffuses better: ``python projects/latent_diffusion/compare.py MODEL... --data DATA --steps N``."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from wfvae_toolkit.utils.options import add_import_argument, friendly_errors

sys.path.insert(0, str(Path(__file__).resolve().parent))  # so that it runs without being installed


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description='Score autoencoders, train a flow on the latents of each with each seed, score its samples, and '
                    'write one table. The same command again continues.')
    parser.add_argument('models', nargs='+', metavar='[NAME=]MODEL',
                        help='a MODEL, or a folder of tools/ablate.py: then seed N of the flow takes the autoencoder '
                             'of seed N; the others are compared with the first one')
    parser.add_argument('--data', required=True, metavar='DATA', help='pictures that the flows are trained on; a '
                        'folder with train/ and val/ serves --val too')
    parser.add_argument('--val', metavar='DATA', help='pictures for scores (default: val/ of --data)')
    parser.add_argument('--steps', type=int, required=True, metavar='N', help='updates of each flow')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], metavar='N', help='(default: 0)')
    parser.add_argument('--work-dir', default='work_dirs/compare', type=os.path.expanduser, metavar='DIR',
                        help='(default: %(default)s)')
    for name, default, text in (('size', 64, 'edge of the crops in px'), ('crops', 6000, 'crops to train on'),
                                ('val-crops', 600, 'crops for scores'), ('samples', 600, 'samples of each flow'),
                                ('real', 2000, 'training crops that samples are compared with')):
        parser.add_argument(f'--{name}', type=int, default=default, metavar='N', help=f'{text} (default: {default})')
    parser.add_argument('--features', default='stlpips-vgg', metavar='NAME',
                        help='network of the Fréchet distances (default: %(default)s, which needs no download)')
    parser.add_argument('--classes', dest='by_class', action='store_true', help='train with classes, the folders of '
                                                                                'DATA')
    parser.add_argument('--guidance', type=float, default=1.0, metavar='W', help='of samples with classes (default: 1)')
    parser.add_argument('--flow', nargs='+', default=[], metavar='KEY=VALUE',
                        help='settings of the flow: batch_size=32 width=192 depth=6')
    parser.add_argument('--fill', type=os.path.expanduser, metavar='FILE.md', help='also put the table between the '
                        'marks in this file')
    add_import_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = vars(parse_arguments(arguments))
    # Imported late: --help must not wait for torch.
    from latent_diffusion.study import Study, StudySettings, plan_rows
    from latent_diffusion.table import MARKS, collect, write_table
    from latent_diffusion.train import flow_options

    from wfvae_toolkit.analysis.ablation_table import fill
    from wfvae_toolkit.utils.errors import SettingError
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.pop('imports'))
    rows, seeds = plan_rows(options.pop('models'), options['seeds']), options.pop('seeds')
    folder, page = options.pop('work_dir'), options.pop('fill')
    data = Path(options['data']).expanduser()
    if options['val'] is None:
        if not (data / 'train').is_dir() or not (data / 'val').is_dir():
            raise SettingError(f'--data {data}: has no train/ and val/; name pictures for scores by --val')
        options['data'], options['val'] = str(data / 'train'), str(data / 'val')
    options['flow'] = flow_options(options['flow'])
    study = Study(folder, rows, seeds, StudySettings(**options))
    study.run()
    lines = collect(study)
    command = shlex.join(['python', 'projects/latent_diffusion/compare.py',
                          *(sys.argv[1:] if arguments is None else arguments)])
    text = write_table(study, lines, command)
    print(f'\n{text}\nwritten to {folder}/: compare.md, compare.csv, compare.json; NAME/seed_N/samples.png')
    if page:
        fill(page, text, MARKS)
    if study.failures:
        sys.exit(f'{len(study.failures)} of {len(rows) * len(seeds)} seeds failed; the table has the others')


if __name__ == '__main__':
    main()
