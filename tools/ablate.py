"""Compare configs under one budget: ``python tools/ablate.py CONFIG... --seeds 0 1 2 --max-iters N --work-dir DIR``."""

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path

from wfvae_toolkit.utils.options import ParseOptions, friendly_errors


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description='Train each config with each seed, score the runs on the same images, write one table. The same '
                    'command again resumes where the first one stopped.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='files, or package::file.py; the others are '
                                                                     'compared with the first one')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], metavar='N', help='(default: 0)')
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument('--max-iters', type=int, metavar='N', help='updates of each run')
    budget.add_argument('--minutes', type=float, metavar='M', help='training time of each run; a short pilot of each '
                                                                   'config says how many updates that is')
    parser.add_argument('--work-dir', default='work_dirs/ablation', type=os.path.expanduser, metavar='DIR',
                        help='(default: %(default)s)')
    parser.add_argument('--jobs', type=int, metavar='N', help='runs at the same time (default: one per GPU, or one)')
    parser.add_argument('--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE', help='settings of all '
                                                                                                   'runs')
    parser.add_argument('--fill', type=os.path.expanduser, metavar='FILE.md', help='also put the table between the '
                        'marks in this file')
    options = parser.parse_args(arguments)
    for name in ('max_iters', 'minutes', 'jobs'):
        if getattr(options, name) is not None and getattr(options, name) <= 0:
            parser.error(f'--{name.replace("_", "-")} {getattr(options, name)}: a number above 0')
    return options


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.analysis.ablation import config_names, plan_runs
    from wfvae_toolkit.analysis.ablation_runs import iterations_for, run_all, visible_devices
    from wfvae_toolkit.analysis.ablation_table import collect, describe, fill, measure_sizes, write_table
    from wfvae_toolkit.report import write_report

    tools = Path(__file__).resolve().parent
    if options.minutes is None:
        max_iters = dict.fromkeys(config_names(options.configs), options.max_iters)
    else:
        max_iters = iterations_for(options.minutes, options.configs, options.work_dir, tools, options.cfg_options)
    runs = plan_runs(options.configs, options.seeds, max_iters, options.work_dir, options.cfg_options)
    sizes = measure_sizes(runs)  # first: if a model cannot be built, stop before the others are trained
    failures = run_all(runs, tools, options.jobs or len(visible_devices()) or 1)

    table = collect(runs, sizes)
    command = shlex.join(['python', 'tools/ablate.py', *(sys.argv[1:] if arguments is None else arguments)])
    text = write_table(table, describe(table, options.seeds, command), options.work_dir)
    print(f'\n{text}\nwritten to {options.work_dir}/: ablation.md, ablation.csv, ablation.png')
    if any(run.finished() for run in runs):
        print(f'report: {write_report([options.work_dir])}')
    if options.fill:
        fill(options.fill, text)
    if failures:
        sys.exit(f'{len(failures)} of {len(runs)} runs failed; the table has the others')


if __name__ == '__main__':
    # Like Ctrl-C: tell the runs to stop before this process ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
